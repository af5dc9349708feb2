"""Commands about stored runs: `reviewtune reproduce`, `lineage`, `apply`, `clean`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.project import project_root

if TYPE_CHECKING:
    from reviewtune.commands.clean import Item

app = typer.Typer()
RunId = Annotated[str, typer.Argument(help="an MLflow run id, or its first digits")]


@app.command()
def reproduce(
    run_id: RunId,
    tolerance: Annotated[float, typer.Option(help="difference in accuracy that is accepted, as a share")] = 0.01,
    retrain: Annotated[
        bool | None,
        typer.Option("--retrain/--reuse-job", help="default: train again if the account is local"),
    ] = None,
) -> None:
    """Run a stored run again from its revision, data and configuration, and compare the results.

    Exit status 1: the results differ. The revision is checked out into a temporary folder; the workspace and its runs
    are not changed.

    Example: reviewtune reproduce 3f2a91 --reuse-job
    """
    from reviewtune.commands.reproduce import reproduce as run_again
    from reviewtune.commands.reproduce import to_text
    from reviewtune.tracking.queries import find_run

    tracking = _config().tracking
    reproduction = run_again(find_run(tracking, run_id), tracking, tolerance=tolerance, retrain=retrain)
    print(to_text(reproduction))
    sys.exit(1 if reproduction.outcome == "different" else 0)


@app.command()
def lineage(
    run_id: RunId,
    picture: Annotated[Path | None, typer.Option(help="PNG file to draw it to as well; `-` is standard output")] = None,
) -> None:
    """Print where a run comes from: data, splits, chat files, job, model; every evaluation of that model; and whether
    applications use it.

    Example: reviewtune lineage 3f2a91 --picture lineage.png
    """
    from reviewtune.commands import lineage as commands_lineage
    from reviewtune.core.outputs import Output
    from reviewtune.tracking.queries import find_run, find_runs
    from reviewtune.tracking.registry import versions

    target = Output.checked(picture, option="--picture") if picture else None
    tracking = _config().tracking
    traced = commands_lineage.trace(find_run(tracking, run_id), find_runs(tracking), versions(tracking))
    print(commands_lineage.to_text(traced), file=sys.stderr if target and target.is_stdout else sys.stdout)
    if target:
        target.write_bytes(commands_lineage.picture(traced))


@app.command()
def apply(run_id: RunId) -> None:
    """Apply a job of a sweep or a DVC experiment to the workspace; `dvc repro` then has nothing to train.

    Example: reviewtune apply 3f2a91
    """
    from reviewtune.commands.apply import apply as apply_run
    from reviewtune.tracking.queries import find_run

    tracking = _config().tracking
    apply_run(find_run(tracking, run_id), tracking)


@app.command()
def clean(
    remove: Annotated[
        bool, typer.Option("--apply", help="remove them; without this option only the plan is shown")
    ] = False,
    sweeps: Annotated[int | None, typer.Option(min=0, help="keep the newest N sweeps; default: all")] = None,
) -> None:
    """Remove runs, models, jobs and caches that no kept run refers to.

    Prints what is on disk and what would be removed. Kept are: runs named by a run.json of the workspace, a commit or a
    DVC experiment; runs with a tag `keep` (set it in the MLflow UI); open runs; sweeps, with the winner's model; what
    the champion and the previous one need. DVC's own cache is not touched: use `dvc gc`.

    Example: reviewtune clean --sweeps 3, and with --apply when the plan is right
    """
    from reviewtune.commands import clean as commands_clean

    config = _config()
    print("on disk:")
    _print_items(commands_clean.on_disk(config))
    plan = commands_clean.plan(config, sweeps=sweeps)
    print(f"kept: {counted(plan.kept, 'run')}; {'removing' if remove else 'would be removed'}:")
    _print_items(plan.items)
    if remove:
        commands_clean.execute(plan, config)
    print(f"{_megabytes(plan.size)} {'freed' if remove else 'would be freed by: reviewtune clean --apply'}")


def _config() -> Config:
    return load_params(project_root() / "params.yaml")


def _print_items(items: "tuple[Item, ...] | list[Item]") -> None:
    for item in items:
        print(f"  {_megabytes(item.size):>12}  {item.what}")
        for name in item.names:
            print(f"{'':16}{name}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
