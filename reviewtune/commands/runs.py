"""Commands about runs of the past: `reviewtune reproduce`, `lineage`, `apply`, `clean`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviewtune.core.config import Config
from reviewtune.core.config_loading import load_params
from reviewtune.core.project import project_root

if TYPE_CHECKING:
    from reviewtune.commands.clean import Item

app = typer.Typer()
RunId = Annotated[str, typer.Argument(help="an MLflow run id, or its first digits")]


@app.command()
def reproduce(
    run_id: RunId,
    tolerance: Annotated[float, typer.Option(help="how far the accuracy may move, as a share")] = 0.01,
    retrain: Annotated[
        bool | None, typer.Option("--retrain/--reuse-job", help="default: train anew where that costs nothing")
    ] = None,
) -> None:
    """Run a stored run again from its revision, data and configuration, and compare. Exit status 1: different.

    The revision is checked out into a temporary folder; the workspace and its runs stay as they are.
    """
    from reviewtune.commands.reproduce import reproduce as run_again
    from reviewtune.commands.reproduce import to_text
    from reviewtune.tracking.queries import find_run

    tracking = _config().tracking
    found = run_again(find_run(tracking, run_id), tracking, tolerance=tolerance, retrain=retrain)
    print(to_text(found))
    sys.exit(1 if found.outcome == "different" else 0)


@app.command()
def lineage(
    run_id: RunId,
    picture: Annotated[Path | None, typer.Option(help="also draw it: a PNG file to write")] = None,
) -> None:
    """Where a run comes from: data, splits, chat files, job, model; and every evaluation of that model."""
    from reviewtune.commands import lineage as commands_lineage
    from reviewtune.tracking.queries import find_run, find_runs

    tracking = _config().tracking
    descent = commands_lineage.trace(find_run(tracking, run_id), find_runs(tracking))
    print(commands_lineage.to_text(descent))
    if picture:
        picture.write_bytes(commands_lineage.picture(descent))


@app.command()
def apply(run_id: RunId) -> None:
    """Bring a sweep's winner, or a DVC experiment, into the workspace; `dvc repro` then has nothing to train."""
    from reviewtune.commands.apply import apply as bring
    from reviewtune.tracking.queries import find_run

    tracking = _config().tracking
    bring(find_run(tracking, run_id), tracking)


@app.command()
def clean(
    remove: Annotated[bool, typer.Option("--apply", help="do it; without this, only the plan is shown")] = False,
    sweeps: Annotated[int | None, typer.Option(min=0, help="keep the newest N sweeps; default: all")] = None,
) -> None:
    """Remove runs, models, jobs and caches that no kept run refers to. Shows what there is and what would go.

    Kept: runs named by a run.json of the workspace, a commit or a DVC experiment; runs with a tag `keep` (set it in the
    MLflow UI); open runs; sweeps, with the winner's model. DVC's cache is another command: `dvc gc`.
    """
    from reviewtune.commands import clean as commands_clean

    config = _config()
    print("on disk:")
    _print_items(commands_clean.on_disk(config))
    plan = commands_clean.plan(config, sweeps=sweeps)
    print(f"{plan.kept} runs are kept; {'removing' if remove else 'would go'}:")
    _print_items(plan.items)
    if remove:
        commands_clean.execute(plan, config)
    print(f"{_megabytes(plan.size)} {'freed' if remove else 'to gain: reviewtune clean --apply'}")


def _config() -> Config:
    return load_params(project_root() / "params.yaml")


def _print_items(items: "tuple[Item, ...] | list[Item]") -> None:
    for item in items:
        print(f"  {_megabytes(item.size):>12}  {item.what}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
