"""The command `classify`: add the column `issue` to a CSV file of reviews."""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reviewtune.analyzer import Classification, ReviewAnalyzer
from reviewtune.core.formatting import counted
from reviewtune.core.progress import TerminalProgress
from reviewtune.data.reviews import CsvRow, read_rows
from reviewtune.errors import DataError

NO_LABEL = "(no usable answer)"
SHOWN = 5


def classify(file: Path, out: Path, *, model: str | None, base: bool, text_column: str) -> None:
    """Write the rows of `file` with their issue to `out`; print the counts, and the reviews without a label."""
    rows = read_rows(file, [text_column])
    if "issue" in rows[0].cells:
        raise DataError(f"{file}: there is a column 'issue' already; rename it, so that nothing is overwritten")
    analyzer = ReviewAnalyzer(not base, model, progress=TerminalProgress())
    issues = analyzer.sort([row.cells[text_column] for row in rows])
    _write_rows(out, [{**row.cells, "issue": issue.label or ""} for row, issue in zip(rows, issues, strict=True)])
    for label, count in Counter(issue.label or NO_LABEL for issue in issues).most_common():
        print(f"{count:6d}  {label}")
    _print_without_label(rows, issues)


def _print_without_label(rows: Sequence[CsvRow], issues: Sequence[Classification]) -> None:
    reasons = [f"line {row.line}: {issue.why}" for row, issue in zip(rows, issues, strict=True) if issue.why]
    if not reasons:
        return
    more = [f"and {len(reasons) - SHOWN} more, whose cell is empty too"] if len(reasons) > SHOWN else []
    note = f"no label for {len(reasons)} of {counted(len(rows), 'review')}, the cell `issue` is empty:"
    print(note, *reasons[:SHOWN], *more, sep="\n  ", file=sys.stderr)


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write to a temporary file first, so that a full disk never leaves an incomplete file under the final name."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
