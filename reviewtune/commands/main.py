"""Fine-tune a small chat model to classify customer reviews, and measure whether it beats a prompt."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reviewtune.commands.data.app import app as data
from reviewtune.commands.deployment.app import app as deployment
from reviewtune.commands.jobs import jobs
from reviewtune.commands.monitoring.app import app as monitoring
from reviewtune.commands.runs import app as runs
from reviewtune.core.terminal.entry_point import program
from reviewtune.errors import INTERRUPTED, INTERRUPTED_MESSAGE

WRONG_USAGE = 2  # exit status, as of most programs
UsageError: Any = typer.BadParameter.__base__  # typer does not export it


class Commands(TyperGroup):
    """Prints a message on Ctrl-C, which Typer itself does not, and wrong options in one line instead of a box."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the class of `ctx` is private to typer
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(INTERRUPTED_MESSAGE, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    def main(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as in typer
        try:
            status = super().main(*args, **{**options, "standalone_mode": False})
        except UsageError as error:
            if message := " ".join(error.format_message().split()):  # empty after `reviewtune` alone, which prints help
                command = error.ctx.command_path if error.ctx else "reviewtune"
                print(f"error: {message.rstrip('.')}; see `{command} --help`", file=sys.stderr)
            status = WRONG_USAGE
        except typer.Abort:  # end of the input at a question
            status = 1
        sys.exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)
provider = typer.Typer(no_args_is_help=True, help="The built-in provider: OpenAI's protocol over a local model.")
app.add_typer(provider, name="provider")
cache = typer.Typer(
    no_args_is_help=True, help="Cached answers of providers, so that nothing is asked or paid for twice."
)
app.add_typer(cache, name="cache")
app.add_typer(data)  # without a name, so that its commands are next to those of this file
app.add_typer(deployment)
app.add_typer(monitoring)
app.add_typer(runs)
app.add_typer(jobs, name="jobs")


def _print_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        print(f"reviewtune {version('reviewtune')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The options of `reviewtune` itself."""


def main() -> None:
    """Entry point: the user's errors are one line and exit status 1."""
    with program():
        app(prog_name="reviewtune")


@app.command()
def classify(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, .xlsx or Parquet with one review per row, or a folder of them; - is standard input"),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="CSV or .xlsx to write: the same rows with a column `issue`; - prints it; a folder: write parts"
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="a model's name; default: the champion, else that of the last `dvc repro`")
    ] = None,
    served_model: Annotated[
        Path | None, typer.Option(help="a folder of `reviewtune champion --out`; needs no project")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="ask the base model instead of the fine-tuned one")] = False,
    finetuned: Annotated[
        bool, typer.Option("--finetuned", help="ask --model with the prompt of a fine-tune, whatever its name")
    ] = False,
    text_column: Annotated[
        str | None, typer.Option(help="the column that holds the review; default: as conf/data")
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="add columns: confidence, and sure, whether it reaches the threshold")
    ] = False,
    unsure_to: Annotated[
        Path | None, typer.Option(help="write the reviews that a person should see to this file instead of --out")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="parts: copy this column, such as an id or the text; can be repeated")
    ] = None,
    part_format: Annotated[str | None, typer.Option("--format", help="parts: parquet (the default) or csv")] = None,
    part_rows: Annotated[int | None, typer.Option(help="parts: rows in each, by default 50,000", min=1)] = None,
    on: Annotated[str | None, typer.Option(help="parts: `ray` makes them on a Ray cluster, or on all cores")] = None,
    address: Annotated[
        str | None, typer.Option(help="of the Ray cluster, such as HOST:6379; default: start Ray on this machine")
    ] = None,
) -> None:
    """Classify new reviews by their main issue.

    A review without a label (because it is too long for the model, for example) does not stop the others: its cell
    stays empty, and the command prints its line and the reason. With --out - all messages go to standard error.

    Only a promoted model has a confidence: the share of answers like this one that are right. A label is sure if its
    confidence reaches the threshold for the wanted accuracy, which was chosen at the promotion. Answers are cached:
    after an interruption the same command continues.

    If --out is a folder, or a new name without an ending such as .csv, the files are read as a stream and written in
    parts with a manifest.json, in the memory of a few parts. Finished parts are not asked again.

    Examples: reviewtune classify new.csv --out sorted.csv; reviewtune classify new.csv --out a.csv --unsure-to b.csv;
    reviewtune classify reviews/ --out sorted --keep id --on ray
    """
    from reviewtune.commands import classify as command
    from reviewtune.commands import classify_parts as parts

    how = command.Asked(model=model, base=base, finetuned=finetuned, served=served_model)
    options = parts.PartOptions(keep=tuple(keep or ()), kind=part_format, rows=part_rows, on=on, address=address)
    if parts.are_wanted(file, out):
        parts.classify(
            file, out, how, options, text_column=text_column, confidence=confidence, has_unsure=unsure_to is not None
        )
        return
    options.refuse_for_a_file(out)
    written = command.Written(out=out, confidence=confidence, unsure_to=unsure_to)
    command.classify(file, written, how, text_column=text_column)


@app.command()
def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="CSV or .xlsx of labelled reviews that the model has not seen")],
    model: Annotated[str | None, typer.Option(help="a model's name; default: the one of the last `dvc repro`")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="metrics JSON of an earlier evaluation, or the id of its MLflow run")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for metrics.json, predictions.csv, ...")] = None,
    other_test_set: Annotated[
        bool, typer.Option("--other-test-set", help="compare even if the test sets differ")
    ] = False,
    leave_out_seen: Annotated[
        bool, typer.Option("--leave-out-seen", help="score only reviews that the model was not trained with")
    ] = False,
    finetuned: Annotated[
        bool, typer.Option("--finetuned", help="ask --model with the prompt of a fine-tune, whatever its name")
    ] = False,
    by: Annotated[
        list[str] | None, typer.Option("--slice", help="score each value of this column separately too")
    ] = None,
) -> None:
    """Score a model on a labelled file, and compare the scores with those of an earlier evaluation.

    If the earlier predictions.csv is next to its metrics JSON, the difference has an interval and a paired test. If the
    file has other reviews than before, old and new are compared on the reviews of both.

    Examples: reviewtune evaluate --ground-truth data/splits/test.csv --compare reports/arms/zero_shot/metrics.json;
    reviewtune evaluate --ground-truth data/splits/test.csv --compare 3f2a91
    """
    from reviewtune.commands import evaluate as command

    options = command.EvaluateOptions(
        ground_truth=ground_truth,
        model=model,
        compare=compare,
        out=out,
        other_test_set=other_test_set,
        leave_out_seen=leave_out_seen,
        finetuned=finetuned,
        by=by or (),
    )
    command.evaluate(options)


@app.command()
def compare(
    reports: Annotated[
        Path | None, typer.Option(help="the folder that `dvc repro` filled; default: the project's reports/")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="write everything as one HTML page that opens offline; - prints it")
    ] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="leave the reviews' texts out of the page")] = False,
) -> None:
    """Print the comparison of the last `dvc repro`, and which arm it recommends.

    The page of --html loads nothing and holds the test reviews on which arms disagree, as data/splits/test.csv has
    them. A copy is logged to the comparison's MLflow run.

    Examples: reviewtune compare; reviewtune compare --html comparison.html
    """
    from reviewtune.commands.results import compare as command

    command.compare(command.CompareOptions(reports=reports, html=html, texts=not no_texts))


@app.command()
def check_data(
    file: Annotated[Path, typer.Argument(help="labelled reviews: a CSV, an .xlsx, or a chat JSONL")],
    data: Annotated[str | None, typer.Option(help="conf/data/NAME.yaml; default: the one whose path is FILE")] = None,
    text_column: Annotated[str | None, typer.Option(help="the column that holds the review")] = None,
    label_column: Annotated[str | None, typer.Option(help="the column that holds the label")] = None,
    second_label_column: Annotated[str | None, typer.Option(help="the column of a second annotator's label")] = None,
    out: Annotated[Path | None, typer.Option(help="write the report as one HTML page that opens offline")] = None,
    label_errors: Annotated[Path | None, typer.Option(help="write the likely label errors, ranked, as CSV")] = None,
    mask: Annotated[Path | None, typer.Option(help="write a copy with personal data masked; never overwrites")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print all findings as JSON")] = False,
    finetune: Annotated[bool, typer.Option("--finetune", help="add the learning curve of four fine-tunes")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="start the fine-tunes without confirmation")] = False,
) -> None:
    """Check labelled data before a fine-tune: faults, duplicates, doubtful labels, personal data, too few reviews.

    It needs no network and costs nothing, except with --finetune, which shows an estimate first. The exit status is 1
    if the pipeline would refuse the file.

    Example: reviewtune check-data data/raw/reviews_en.csv --out report.html --label-errors doubtful.csv
    """
    from reviewtune.commands.check_data import CheckDataOptions, check_data

    options = CheckDataOptions(
        data=data,
        text_column=text_column,
        label_column=label_column,
        second_label_column=second_label_column,
        out=out,
        label_errors=label_errors,
        mask=mask,
        as_json=as_json,
        finetune=finetune,
        yes=yes,
    )
    check_data(file, options)


@app.command()
def ui(port: Annotated[int, typer.Option(help="port of the UI")] = 5000) -> None:
    """Serve the MLflow UI for this project's runs until Ctrl-C.

    Example: reviewtune ui --port 5001
    """
    from reviewtune.core.config.loading import load_params
    from reviewtune.core.project import project_root
    from reviewtune.tracking import ui_pages
    from reviewtune.tracking.queries import ui_command

    tracking = load_params(project_root() / "params.yaml").tracking
    command = ui_command(tracking, port)
    print("MLflow UI, ready in a few seconds; Ctrl-C stops it", file=sys.stderr)
    for title, link in ui_pages.links(tracking).items():
        print(f"  {title}: http://127.0.0.1:{port}/{link}", file=sys.stderr)
    os.execv(command[0], command)


@provider.command()
def serve(
    host: Annotated[str, typer.Option(help="an address other than loopback needs --api-key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free port")] = 8000,
    data_dir: Annotated[Path | None, typer.Option(help="where files, jobs and models are kept")] = None,
    api_key: Annotated[str | None, typer.Option(help="every request must have it; or set REVIEWTUNE_API_KEY")] = None,
    base_model: Annotated[str | None, typer.Option(help="an additional base model: hub id or folder")] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="NAME=MODEL, for clients that know other names only; can be repeated")
    ] = None,
) -> None:
    """Serve the OpenAI protocol until Ctrl-C. Any openai client can use it: base_url=http://127.0.0.1:8000/v1

    Example: reviewtune provider serve --port 8001 --base-model ./my-model
    """
    options = {"--host": host, "--port": port, "--data-dir": data_dir, "--base-model": base_model}
    command = [sys.executable, "-m", "reviewtune.local_server"]
    command += [part for name, value in options.items() if value is not None for part in (name, str(value))]
    command += [part for entry in alias or () for part in ("--alias", entry)]
    if api_key:
        os.environ["REVIEWTUNE_API_KEY"] = api_key  # not as an argument, which every user of the machine can read
    os.execv(command[0], command)


@cache.command()
def stats() -> None:
    """Show how many answers of each model are cached, and where.

    Example: reviewtune cache stats
    """
    from reviewtune.commands.cache import show_stats

    show_stats()


@cache.command()
def prune(
    unused_for: Annotated[int | None, typer.Option(help="only answers not used for this many days", min=0)] = None,
    model: Annotated[str | None, typer.Option(help="only answers of this model")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all answers")] = False,
) -> None:
    """Delete cached answers; when they are needed, they are asked and paid for again.

    Examples: reviewtune cache prune --unused-for 30; reviewtune cache prune --model gpt-4o-mini-2024-07-18
    """
    from reviewtune.commands.cache import prune_answers

    prune_answers(unused_for, model, everything=everything)
