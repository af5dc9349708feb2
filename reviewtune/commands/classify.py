"""The command `classify`: add the column `issue` to a table of reviews."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.analyzer.served_model import read_served_model
from reviewtune.core.config.data import ColumnsConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.outputs import STANDARD_STREAM, Output
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import Progress, TerminalProgress
from reviewtune.data.reviews import text_column_of
from reviewtune.data.spreadsheets import refuse_long_cells
from reviewtune.data.tables import XLSX, Row, Table, read_table, to_bytes
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation.ground_truth import how_asked
from reviewtune.finetuning.job_notes import is_finetuned
from reviewtune.finetuning.model_record import fitting_record

ISSUE, CONFIDENCE, SURE = "issue", "confidence", "sure"  # columns
ENDINGS = (".csv", XLSX)  # of one file
DIGITS = 4  # of a confidence
NO_LABEL = "(no usable answer)"
SHOWN = 5


class Asked(NamedTuple):
    """Which model is asked, and how.

    Attributes:
        model: a model's name; None: the champion, else the one of the last `dvc repro`.
        base: ask the base model instead, or `model` as one.
        finetuned: ask `model` as a fine-tuned one, although nothing here knows it as one.
        served: the folder of a served model, which is asked instead; needs no project.
    """

    model: str | None
    base: bool = False
    finetuned: bool = False
    served: Path | None = None

    def refuse_contradictions(self) -> None:
        """Refuse options that do not go together.

        Raises:
            ConfigError: with what they are.
        """
        if self.finetuned and (self.base or self.model is None):
            raise ConfigError("--finetuned needs --model NAME and does not go with --base")
        if self.served is not None and (self.base or self.model is not None):
            raise ConfigError("--served-model names the model; it does not go with --model, --base or --finetuned")

    def columns(self) -> ColumnsConfig:
        """The columns of the data set that the model was made for."""
        if self.served is not None:
            return read_served_model(self.served).config.data.columns
        return load_params(ProjectPaths(project_root()).params).data.columns


class Written(NamedTuple):
    """What is written, and where.

    Attributes:
        out: the CSV, or .xlsx if its name ends like that; `-` is standard output.
        confidence: add the columns confidence and sure.
        unsure_to: like `out`, for the rows whose label is not sure, which `out` then lacks; None: all go to `out`.
    """

    out: Path
    confidence: bool = False
    unsure_to: Path | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (ISSUE, CONFIDENCE, SURE) if self.confidence else (ISSUE,)


def classify(file: Path, written: Written, how: Asked, *, text_column: str | None) -> None:
    """Write the rows of `file` with their issue; print the counts, and the reviews without a label.

    Everything that can be refused is refused before the first request. If the table goes to standard output, all
    messages go to standard error.

    Args:
        file: a CSV or .xlsx; `-` is standard input.
        written: what is written, and where.
        how: which model is asked, and how.
        text_column: the column with the reviews; None: the one that conf/data names.

    Raises:
        ConfigError: the model cannot be asked both ways, or its labels come without a confidence that is wanted.
        DataError: the table cannot be read, has no such column or an `issue` column; an output cannot be written.
    """
    how.refuse_contradictions()
    outputs, table = _outputs(written, file), read_table(file)
    column = text_column_of(table, text_column, how.columns().text)
    _refuse_unfit(table, written)
    messages = sys.stderr if any(output.is_stdout for output in outputs) else sys.stdout
    analyzer = analyzer_for(how, progress=TerminalProgress(messages))
    if written.confidence or written.unsure_to:
        refuse_without_confidence(analyzer, how)
    issues = analyzer.classify_reviews([row.cells[column] for row in table.rows])
    _write(written, outputs, table, issues)
    _print_counts(issues, messages, split=written.unsure_to)
    if table.skipped:
        print(table.skipped, file=sys.stderr)
    _print_without_label(table.rows, issues)


def refuse_without_confidence(analyzer: ReviewAnalyzer, how: Asked) -> None:
    """Refuse a model whose labels come without a confidence.

    Raises:
        ConfigError: with what to do.
    """
    if analyzer.is_calibrated:
        return
    model = analyzer.model
    asked = f"--base asks {model}, which" if how.base else model
    other = "promote it, if its provider returns log-probabilities and there are at least 30 validation reviews"
    if how.base or how.model is not None:
        other = f"leave out {'--base' if how.base else f'--model {how.model}'} to ask the champion"
    raise ConfigError(
        f"{asked} gives labels without a confidence: only a promoted model has one, since it is measured at the "
        f"promotion; {other}, or leave out --confidence and --unsure-to"
    )


def _outputs(written: Written, file: Path) -> list[Output]:
    """The checked outputs.

    Raises:
        DataError: one of them cannot be written, has another ending, or is the file to classify, or both are the same.
    """
    outputs = [_output(written.out, "--out")]
    if written.unsure_to is not None:
        outputs.append(_output(written.unsure_to, "--unsure-to"))
    for output in outputs:
        output.refuse_input(file, "to classify")
    if len({STANDARD_STREAM if output.is_stdout else output.path.resolve() for output in outputs}) < len(outputs):
        raise DataError(f"--out and --unsure-to are both {written.out}; name two files")
    return outputs


def _output(path: Path, option: str) -> Output:
    output = Output.checked(path, option=option)
    is_device = output.is_stdout or (path.exists() and not path.is_file())
    if not is_device and path.suffix.lower() not in ENDINGS:
        parts = "; parts are written into a folder that exists or has no ending" if option == "--out" else ""
        ends = f"its name must end in {' or '.join(ENDINGS)}, which decides on the format"
        raise DataError(f"{option} {path}: {ends}{parts}")
    return output


def _write(written: Written, outputs: Sequence[Output], table: Table, issues: Sequence[Classification]) -> None:
    """Each row goes to the output, or the unsure ones to the second output."""
    columns, paths = [*table.columns, *written.columns], [written.out, written.unsure_to or written.out]
    rows: list[list[dict[str, str]]] = [[], []]
    for row, issue in zip(table.rows, issues, strict=True):
        is_split = written.unsure_to is not None and not issue.sure
        rows[is_split].append({**row.cells, **dict(zip(written.columns, _cells(issue), strict=False))})
    for output, path, part in zip(outputs, paths, rows, strict=False):
        output.write_bytes(to_bytes(columns, part, path))


def _cells(issue: Classification) -> Iterator[str]:
    """The values of the columns issue, confidence and sure."""
    yield issue.label or ""
    yield "" if issue.confidence is None else f"{issue.confidence:.{DIGITS}f}"
    yield "true" if issue.sure else "false"


def print_labels(counts: Mapping[str, int], messages: TextIO) -> None:
    """One line per label."""
    for label, count in counts.items():
        print(f"{count:6d}  {label}", file=messages)


def _print_counts(issues: Sequence[Classification], messages: TextIO, *, split: Path | None) -> None:
    print_labels(dict(Counter(issue.label or NO_LABEL for issue in issues).most_common()), messages)
    if split is not None:
        unsure = sum(not issue.sure for issue in issues)
        print(f"{unsure} of {counted(len(issues), 'review')} not sure, written to {split}", file=messages)


def analyzer_for(how: Asked, *, progress: Progress) -> ReviewAnalyzer:
    """Asks a model that no record and no job of the project knows as `evaluate` does, and reports how."""
    model = how.model
    if how.served is not None:
        analyzer = ReviewAnalyzer(served_model=how.served, progress=progress, cache=True)
        progress.message(f"asking {analyzer.model} (the model in {how.served})")
        return analyzer
    if how.base:
        return ReviewAnalyzer(False, base_model=model, progress=progress, cache=True)
    if model is None:
        analyzer = ReviewAnalyzer(progress=progress, cache=True)
        which = f"the champion, version {analyzer.version}" if analyzer.version else "the model of the last `dvc repro`"
        progress.message(f"asking {analyzer.model} ({which})")
        return analyzer
    root = project_root()
    config = load_params(ProjectPaths(root).params)
    is_recorded = fitting_record(ProjectPaths(root).model_record, model, config) is not None
    finetuned = how.finetuned or is_recorded or is_finetuned(model, root)
    if not is_recorded:
        progress.message(how_asked(model, config, finetuned=finetuned))
    return ReviewAnalyzer(finetuned, model, base_model=model, progress=progress, cache=True)


def _refuse_unfit(table: Table, written: Written) -> None:
    table.refuse_faults()
    for name in written.columns:
        if name in table.columns:
            hint = "rename it, so that nothing is overwritten"
            raise DataError(f"{table.path}: there is a column '{name}' already; {hint}")
    for path in (written.out, written.unsure_to):
        if path is not None and path.suffix.lower() == XLSX:
            refuse_long_cells(((row.line, row.cells.values()) for row in table.rows), path)


def _print_without_label(rows: Sequence[Row], issues: Sequence[Classification]) -> None:
    reasons = [f"line {row.line}: {issue.why}" for row, issue in zip(rows, issues, strict=True) if issue.why]
    if not reasons:
        return
    more = [f"and {len(reasons) - SHOWN} more, whose cell is empty too"] if len(reasons) > SHOWN else []
    note = f"no label for {len(reasons)} of {counted(len(rows), 'review')}, the cell `{ISSUE}` is empty:"
    print(note, *reasons[:SHOWN], *more, sep="\n  ", file=sys.stderr)
