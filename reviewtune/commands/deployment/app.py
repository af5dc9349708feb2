"""Commands about the model that applications use: `reviewtune promote`, `champion`, `rollback`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def promote(
    run_id: Annotated[
        str | None,
        typer.Argument(help="an evaluation in MLflow, or its id's first digits; default: the last `dvc repro`"),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="another arm of the last `dvc repro` instead of the fine-tune, such as linear")
    ] = None,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="store the local model's adapter, so that other machines can answer")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="promote although gates fail; needs --reason")] = False,
    reason: Annotated[str | None, typer.Option(help="why; kept in the history of the champion")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the gates as JSON")] = False,
) -> None:
    """Make a model the champion, which applications use, if it holds all gates.

    It is held against the champion on the frozen test split: accuracy not worse by more than promotion.margin, no label
    significantly worse; against limits on unusable answers, hostile reviews, latency, cost and calibration; and its
    training data and code must be known. Without a champion it must beat evaluation.reference. The gates are printed,
    written to reports/gates.json and noted on the MLflow run. If one fails, nothing is promoted: exit status 1.

    Examples: reviewtune promote; reviewtune promote --arm linear; reviewtune promote 3f2a91 --force --reason "urgent"
    """
    from reviewtune.commands.deployment import promote as command
    from reviewtune.deployment.promotion import PromoteOptions

    options = PromoteOptions(run_id=run_id, arm=arm, force=force, reason=reason, with_weights=with_weights)
    command.promote(options, as_json=as_json)


@app.command()
def champion(
    out: Annotated[
        Path | None, typer.Option(help="copy its files into this folder, for a machine without MLflow")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="also list all promotions and rollbacks")] = False,
) -> None:
    """Print which model is champion, since when and why, and where it comes from.

    Examples: reviewtune champion --history; reviewtune champion --out champion/
    """
    from reviewtune.commands.deployment import promote as command

    command.show_champion(out=out, history=history)


@app.command()
def rollback(
    reason: Annotated[str | None, typer.Option(help="why; kept in the history of the champion")] = None,
    version: Annotated[
        int | None, typer.Option("--from", help="only if this version is champion; for scripts that may run twice")
    ] = None,
) -> None:
    """Make the previous champion the champion again, in a second. Nothing is asked and nothing is deleted.

    The champion becomes the previous one, so a second rollback goes forward again.

    Example: reviewtune rollback --reason "refunds are taken for praise"
    """
    from reviewtune.commands.deployment import promote as command

    command.roll_back(reason, version=version)
