"""Commands about new reviews and the model in use: `reviewtune monitor`, `queue`, `retrain`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

app = typer.Typer()
CHOOSE = "choose"


@app.command()
def monitor(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or .xlsx of new reviews, with dates if there are any, or what serve-app recorded"),
    ],
    text_column: Annotated[
        str | None, typer.Option(help="column with the reviews; default: one as in conf/data")
    ] = None,
    date_column: Annotated[
        str | None,
        typer.Option(help="column with dates like 2026-11-29; default: date, time, created_at or a similar name"),
    ] = None,
    sample: Annotated[int, typer.Option(help="reviews to compare at most, drawn at random", min=3)] = 2_000,
    out: Annotated[Path | None, typer.Option(help="folder for the report; default: reports/monitoring")] = None,
    served_model: Annotated[
        Path | None, typer.Option(help="folder of `champion --out` instead of the champion")
    ] = None,
    texts: Annotated[bool, typer.Option("--texts/--no-texts", help="show examples of new topics")] = True,
    track: Annotated[bool, typer.Option("--track/--no-track", help="note the report in MLflow")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Compare new reviews with those that the champion was accepted on; exit status 0 is calm, 3 an alarm.

    Tests: label mix, each label, confidence, texts, languages, lengths, unusable answers, surges over time, new topics,
    and the accuracy estimated without labels. If nothing changed, an alarm comes in at most 5 of 100 reports. The model
    is asked about each compared review; answers come from the answer cache if it has them. Of a recording, a folder or
    one of its files, the answers of the champion's version are taken as they are.

    Examples: reviewtune monitor week48.csv; reviewtune monitor week48.csv || mail -s "reviews changed" me@example.org
    """
    from reviewtune.commands.monitoring import monitor as command

    options = command.MonitorOptions(
        file=file,
        text_column=text_column,
        date_column=date_column,
        sample=sample,
        out=out,
        served_model=served_model,
        with_texts=texts,
        track=track,
        as_json=as_json,
    )
    command.monitor(options)


@app.command()
def retrain(
    promote: Annotated[bool, typer.Option("--promote", help="make it the champion if all gates pass")] = False,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="only if conf/retraining says that it is worth it; for cron")
    ] = False,
    commit: Annotated[
        bool, typer.Option("--commit", help="commit labels and results, which the gate git asks for")
    ] = False,
    arm: Annotated[
        str | None, typer.Option(help="the candidate's arm; default: the champion's, without one the fine-tune")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print steps and decision as JSON")] = False,
) -> None:
    """Train with the merged labels and compare the result with the champion: check-data, dvc repro, promote --check.

    Each step is printed with the command that it stands for. After an interruption the same command continues: no job
    is created and no answer is paid for twice, and evaluation.budget_usd is the cap of all steps together, also over
    several calls. Nothing is promoted without --promote. reports/retraining.json says how far it came.

    Exit status 0: decided (passed, promoted, champion already), or not needed; 3: a gate refused the candidate, so that
    a person should look; 1: an error. With --if-needed a decision is not repeated until labels, settings or champion
    change.

    Examples: reviewtune retrain; reviewtune retrain --if-needed --commit --promote
    """
    from reviewtune.commands.monitoring import retrain as command
    from reviewtune.monitoring.retraining.retrain import RetrainOptions

    options = RetrainOptions(if_needed=if_needed, promote=promote, commit=commit, arm=arm)
    command.retrain(options, as_json=as_json)


class QueueCommands(TyperGroup):
    """`queue FILE` is `queue choose FILE`, unless FILE is the name of a command: then write ./merge, for example."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the class of `ctx` is private to typer
        is_named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if is_named or not args else [CHOOSE, *args])


queue = typer.Typer(
    cls=QueueCommands,
    no_args_is_help=True,
    help="Choose the reviews that a person should label: `reviewtune queue FILE --size 50 --out to_label.xlsx`, which "
    "is `queue choose FILE`. Then merge the labels. A file called merge or choose: ./merge.",
)
app.add_typer(queue, name="queue")


@queue.command(CHOOSE)
def choose(
    file: Annotated[
        Path, typer.Argument(help="CSV or .xlsx with new reviews, one per row, or what serve-app recorded")
    ],
    out: Annotated[
        list[Path], typer.Option(help="file to fill in: .csv, .xlsx with a list of labels, or .json; may be repeated")
    ],
    size: Annotated[int, typer.Option(help="number of reviews to label", min=1)] = 50,
    audit: Annotated[
        int | None, typer.Option(help="number of random reviews, for the accuracy; default: 40 % of --size", min=0)
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="the column that holds the review; default: as conf/data")
    ] = None,
) -> None:
    """Choose what a person should label, with the label of the model, its confidence, and why it was chosen.

    There is a random sample (the audit), which gives an unbiased accuracy, reviews of new topics, and those of which
    the champion is least sure. Near-duplicates are asked once, and reviews like those of the raw data are left out.
    Fill in the column `label`, then `reviewtune queue merge`. A .json is for Label Studio; its labelling interface is
    written next to it. What was asked is kept in data/queues: commit it. Existing files are not replaced. Answers are
    cached, so the same command continues.

    Example: reviewtune queue choose new.csv --size 50 --out to_label.csv --out to_label.xlsx
    """
    from reviewtune.commands.monitoring import queue as command
    from reviewtune.monitoring.labelling_queue.make import QueueOptions

    command.choose(file, out, QueueOptions(size=size, audit=audit, text_column=text_column))


@queue.command()
def merge(
    file: Annotated[Path, typer.Argument(help="the filled file: CSV, .xlsx, or an export of Label Studio as JSON")],
    keep_columns: Annotated[
        bool, typer.Option("--keep-columns", help="add no columns for date and source to the raw data")
    ] = False,
) -> None:
    """Append the labels of a filled file to the raw data, and update the accuracy of the audit in MLflow.

    Rows without a label are listed and can be merged later from the same file. Rows with an unknown label, with several
    labels, of a test review or with a changed text are listed and not merged: exit status 1. Rows that were merged
    before are not doubled, so the same command may be repeated, also after it was killed. New rows get the date and the
    queue in the columns labelled_on and label_source, which are added at the first merge; from then on git shows added
    lines only.

    Example: reviewtune queue merge to_label.xlsx
    """
    from reviewtune.commands.monitoring import queue as command

    command.merge(file, keep_columns=keep_columns)
