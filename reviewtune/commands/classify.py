"""The command `classify`: add the column `issue` to a table of reviews."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.outputs import Output
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import Progress, TerminalProgress
from reviewtune.data.reviews import TEXT_COLUMNS
from reviewtune.data.spreadsheets import refuse_long_cells
from reviewtune.data.tables import XLSX, Row, Table, read_table, to_bytes
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation.ground_truth import how_asked
from reviewtune.finetuning.job_notes import is_finetuned
from reviewtune.finetuning.model_record import fitting_record

ISSUE = "issue"
NO_LABEL = "(no usable answer)"
SHOWN = 5


class Asked(NamedTuple):
    """Which model is asked, and how.

    Attributes:
        model: a model's name; None: the one of the last `dvc repro`.
        base: ask the base model instead, or `model` as one.
        finetuned: ask `model` as a fine-tuned one, although nothing here knows it as one.
    """

    model: str | None
    base: bool = False
    finetuned: bool = False


def classify(file: Path, out: Path, how: Asked, *, text_column: str | None) -> None:
    """Write the rows of `file` with their issue to `out`; print the counts, and the reviews without a label.

    Everything that can be refused is refused before the first request. If the table goes to standard output, all
    messages go to standard error.

    Args:
        file: a CSV or .xlsx; `-` is standard input.
        out: the CSV, or .xlsx if its name ends like that; `-` is standard output.
        how: which model is asked, and how.
        text_column: the column with the reviews; None: the one that conf/data names.

    Raises:
        ConfigError: the model cannot be asked both ways.
        DataError: the table cannot be read, has no such column or an `issue` column; `out` cannot be written.
    """
    if how.finetuned and (how.base or how.model is None):
        raise ConfigError("--finetuned needs --model NAME and does not go with --base")
    output, table = Output.checked(out), read_table(file)
    column = _text_column(table, text_column)
    _refuse_unfit(table, out)
    messages = sys.stderr if output.is_stdout else sys.stdout
    analyzer = _analyzer(how, progress=TerminalProgress(messages))
    issues = analyzer.classify_reviews([row.cells[column] for row in table.rows])
    rows = [{**row.cells, ISSUE: issue.label or ""} for row, issue in zip(table.rows, issues, strict=True)]
    output.write_bytes(to_bytes([*table.columns, ISSUE], rows, out))
    for label, count in Counter(issue.label or NO_LABEL for issue in issues).most_common():
        print(f"{count:6d}  {label}", file=messages)
    if table.skipped:
        print(table.skipped, file=sys.stderr)
    _print_without_label(table.rows, issues)


def _analyzer(how: Asked, *, progress: Progress) -> ReviewAnalyzer:
    """Asks a model that no record and no job of the project knows as `evaluate` does, and reports how."""
    model = how.model
    if model is None or how.base:
        return ReviewAnalyzer(not how.base, base_model=model, progress=progress)
    root = project_root()
    config = load_params(ProjectPaths(root).params)
    is_recorded = fitting_record(ProjectPaths(root).model_record, model, config) is not None
    finetuned = how.finetuned or is_recorded or is_finetuned(model, root)
    if not is_recorded:
        progress.message(how_asked(model, config, finetuned=finetuned))
    return ReviewAnalyzer(finetuned, model, base_model=model, progress=progress)


def _text_column(table: Table, given: str | None) -> str:
    """The given column, that of conf/data, one with a usual name, or the only one.

    Raises:
        DataError: there is no such column.
    """
    if given is not None:
        table.require([given], hint="choose one of them with --text-column")
        return given
    configured = load_params(ProjectPaths(project_root()).params).data.columns.text
    usual = next((name for name in (configured, *TEXT_COLUMNS) if name in table.columns), None)
    if usual is None and len(table.columns) == 1:
        return table.columns[0]
    if usual is None:
        table.require([configured], hint="name the column with the reviews with --text-column")
    return usual or configured


def _refuse_unfit(table: Table, out: Path) -> None:
    table.refuse_faults()
    if ISSUE in table.columns:
        raise DataError(f"{table.path}: there is a column '{ISSUE}' already; rename it, so that nothing is overwritten")
    if out.suffix.lower() == XLSX:
        refuse_long_cells(((row.line, row.cells.values()) for row in table.rows), out)


def _print_without_label(rows: Sequence[Row], issues: Sequence[Classification]) -> None:
    reasons = [f"line {row.line}: {issue.why}" for row, issue in zip(rows, issues, strict=True) if issue.why]
    if not reasons:
        return
    more = [f"and {len(reasons) - SHOWN} more, whose cell is empty too"] if len(reasons) > SHOWN else []
    note = f"no label for {len(reasons)} of {counted(len(rows), 'review')}, the cell `{ISSUE}` is empty:"
    print(note, *reasons[:SHOWN], *more, sep="\n  ", file=sys.stderr)
