"""The command line: `reviewtune --help`."""

import csv
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reviewtune.commands.jobs import jobs
from reviewtune.commands.runs import app as runs
from reviewtune.core.entry_point import program
from reviewtune.errors import INTERRUPTED, INTERRUPTED_MESSAGE, DataError


class Commands(TyperGroup):
    """Typer itself would end without a word on Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the class of `ctx` is private to typer
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(INTERRUPTED_MESSAGE, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
provider = typer.Typer(no_args_is_help=True, help="The provider in the box: OpenAI's protocol over a local model.")
app.add_typer(provider, name="provider")
cache = typer.Typer(no_args_is_help=True, help="Answers of providers, kept so that nothing is asked or paid twice.")
app.add_typer(cache, name="cache")
app.add_typer(runs)  # without a name: its commands stand beside those of this file
app.add_typer(jobs, name="jobs")


NO_LABEL = "(no usable answer)"
SHOWN = 5


def main() -> None:
    """Entry point: the user's errors are one line and exit status 1."""
    with program():
        app(prog_name="reviewtune")


@app.command()
def classify(
    file: Annotated[Path, typer.Argument(help="CSV with one review a row")],
    out: Annotated[Path, typer.Option(help="CSV to write: the same rows with a column `issue`")],
    model: Annotated[str | None, typer.Option(help="a model's name; default: the one of the last `dvc repro`")] = None,
    base: Annotated[bool, typer.Option("--base", help="ask the base model instead of the fine-tuned one")] = False,
    text_column: Annotated[str, typer.Option(help="the column that holds the review")] = "text",
) -> None:
    """Sort new reviews by their main issue.

    One that gets no label (too long for the model, say) does not stop the others: its cell stays empty, and its line
    and the reason are told.
    """
    from reviewtune.analyzer import ReviewAnalyzer
    from reviewtune.data.reviews import read_rows

    rows = read_rows(file, [text_column])
    if "issue" in rows[0].cells:
        raise DataError(f"{file}: there is a column 'issue' already; rename it, so that nothing is overwritten")
    issues = ReviewAnalyzer(not base, model).sort([row.cells[text_column] for row in rows])
    _write_rows(out, [{**row.cells, "issue": found.label or ""} for row, found in zip(rows, issues, strict=True)])
    for issue, count in Counter(found.label or NO_LABEL for found in issues).most_common():
        print(f"{count:6d}  {issue}")
    if unsorted := [f"line {row.line}: {found.why}" for row, found in zip(rows, issues, strict=True) if found.why]:
        more = [f"and {len(unsorted) - SHOWN} more, whose cell is empty too"] if len(unsorted) > SHOWN else []
        note = f"{len(unsorted)} of {len(rows)} reviews have no label, their cell `issue` is empty:"
        print(note, *unsorted[:SHOWN], *more, sep="\n  ", file=sys.stderr)


@app.command()
def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="CSV of labelled reviews that the model has not seen")],
    model: Annotated[str | None, typer.Option(help="a model's name; default: the one of the last `dvc repro`")] = None,
    compare: Annotated[Path | None, typer.Option(help="metrics JSON of an earlier evaluation of this file")] = None,
    out: Annotated[
        Path | None, typer.Option(help="where to write metrics.json, predictions.csv, ...: a folder")
    ] = None,
    other_test_set: Annotated[bool, typer.Option(help="compare although the test sets differ")] = False,
    by: Annotated[list[str] | None, typer.Option("--slice", help="score each value of this column apart too")] = None,
) -> None:
    """Score a model on a labelled file, and show what has improved since an earlier evaluation.

    reviewtune evaluate --ground-truth data/splits/test.csv --compare reports/arms/zero_shot/metrics.json
    """
    from reviewtune.core.config_loading import load_params
    from reviewtune.core.project import project_root
    from reviewtune.evaluation import earlier_metrics, results
    from reviewtune.evaluation.console_report import show
    from reviewtune.evaluation.ground_truth import evaluate_file, read_ground_truth, training_is_unknown

    root = project_root()
    config, earlier, notes = (
        load_params(root / "params.yaml"),
        earlier_metrics.read_past(compare) if compare else None,
        [],
    )
    truth = read_ground_truth(ground_truth, config.data, by or ())
    if earlier and other_test_set:
        notes.append(
            f"{earlier.path} may stem from another test set: the difference says nothing about the model alone"
        )
    elif earlier:  # before anything is paid
        size, digest = len(truth.reviews), truth.sha256
        if note := earlier_metrics.refuse_other_test_set(earlier, n=size, test_sha256=digest, file=ground_truth):
            notes.append(note)
    if training_is_unknown(model, root):
        notes.append(f"what {model} was trained with is not on record here: it may have seen these reviews")
    result = evaluate_file(model, truth, config, root)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        results.write(result, out)
    show(result, earlier_metrics.table(earlier, result.metrics) if earlier else [], notes)


@app.command()
def compare(
    reports: Annotated[Path, typer.Option(help="the folder that `dvc repro` filled")] = Path("reports"),
) -> None:
    """Print the comparison of the last `dvc repro`."""
    from reviewtune.core.atomic_files import read_json
    from reviewtune.evaluation.comparison.compare import render

    path = reports / "comparison.json"
    try:
        report = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no comparison yet; run `make repro`") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); run `dvc repro --force compare`") from error
    render(report)


@app.command()
def check_data(
    file: Annotated[Path, typer.Argument(help="labelled reviews: a CSV, or a chat JSONL")],
    data: Annotated[str | None, typer.Option(help="conf/data/NAME.yaml; default: the one whose path is FILE")] = None,
    text_column: Annotated[str | None, typer.Option(help="the column that holds the review")] = None,
    label_column: Annotated[str | None, typer.Option(help="the column that holds the label")] = None,
    second_label_column: Annotated[str | None, typer.Option(help="the column of a second annotator's label")] = None,
    out: Annotated[Path | None, typer.Option(help="write the report as one HTML page that opens offline")] = None,
    label_errors: Annotated[Path | None, typer.Option(help="write the likely label errors, ranked, as CSV")] = None,
    mask: Annotated[Path | None, typer.Option(help="write a copy with personal data masked; never overwrites")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything that was found as JSON")] = False,
    finetune: Annotated[bool, typer.Option("--finetune", help="add four fine-tunes, for their own curve")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="start the fine-tunes without asking")] = False,
) -> None:
    """Look for what spoils a fine-tune: faults, duplicates, doubtful labels, personal data, too few reviews.

    Without a network and without cost, but for --finetune, which shows an estimate first. Exit status 1 when the
    pipeline would refuse the file.

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
def ui(port: Annotated[int, typer.Option(help="where the browser finds it")] = 5000) -> None:
    """Open the MLflow UI on this project's runs. Ctrl-C ends it."""
    from reviewtune.core.config_loading import load_params
    from reviewtune.core.project import project_root
    from reviewtune.tracking import ui_pages
    from reviewtune.tracking.queries import ui_command

    tracking = load_params(project_root() / "params.yaml").tracking
    command = ui_command(tracking, port)
    print("MLflow UI, ready in some seconds; Ctrl-C ends it", file=sys.stderr)
    for title, link in ui_pages.links(tracking).items():
        print(f"  {title}: http://127.0.0.1:{port}/{link}", file=sys.stderr)
    os.execv(command[0], command)


@provider.command()
def serve(
    host: Annotated[str, typer.Option(help="an address other than loopback wants --api-key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free one")] = 8000,
    data_dir: Annotated[Path | None, typer.Option(help="where files, jobs and models are kept")] = None,
    api_key: Annotated[str | None, typer.Option(help="every request must bear it; or REVIEWTUNE_API_KEY")] = None,
    base_model: Annotated[str | None, typer.Option(help="a further base model: hub id or folder")] = None,
) -> None:
    """Serve the OpenAI protocol until Ctrl-C. Any openai client works: base_url=http://127.0.0.1:8000/v1"""
    options = {"--host": host, "--port": port, "--data-dir": data_dir, "--base-model": base_model}
    command = [sys.executable, "-m", "reviewtune.local_server"]
    command += [part for name, value in options.items() if value is not None for part in (name, str(value))]
    if api_key:
        os.environ["REVIEWTUNE_API_KEY"] = api_key  # not on the command line, where every user of the machine reads it
    os.execv(command[0], command)


@cache.command()
def stats() -> None:
    """How many answers of which model are kept, and where."""
    from reviewtune.commands.cache import show_stats

    show_stats()


@cache.command()
def prune(
    unused_for: Annotated[int | None, typer.Option(help="only answers not used for so many days", min=0)] = None,
    model: Annotated[str | None, typer.Option(help="only answers of this model")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every answer there is")] = False,
) -> None:
    """Delete answers; they will be asked, and paid, again when they are needed.

    Examples: `reviewtune cache prune --unused-for 30`, `reviewtune cache prune --model gpt-4o-mini-2024-07-18`
    """
    from reviewtune.commands.cache import prune_answers

    prune_answers(unused_for, model, everything=everything)


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Beside its place first, so that a full disk never leaves half a file under the right name."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
