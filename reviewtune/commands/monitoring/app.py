"""The commands about a model after its launch, as the command line knows them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def monitor(
    file: Annotated[Path, typer.Argument(help="CSV or .xlsx of new reviews, with a date column if there is one")],
    text_column: Annotated[
        str | None, typer.Option(help="column with the reviews; default: one as in conf/data")
    ] = None,
    date_column: Annotated[
        str | None, typer.Option(help="column with dates like 2026-11-29; default: date, time or created_at")
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
    is asked about each compared review; answers come from the answer cache if it has them.

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
