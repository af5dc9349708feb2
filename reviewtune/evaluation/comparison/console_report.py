"""The comparison on the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from reviewtune.core.formatting import counted
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.findings import (
    confidence_lines,
    cost_lines,
    optional_lines,
    prior_lines,
    verdict_lines,
)
from reviewtune.evaluation.comparison.tables import RESPONSE_HEAD, guide_rows, response_rows, short_arm_rows

SPARE = ("per s", "hard", "F1")  # columns that a narrow terminal leaves out; reports/comparison.md has all
GAP = 2  # between two columns


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the tables and sentences; 80 columns are enough."""
    if guide := guide_rows(comparison):
        title = f"fine-tuned against {comparison.reference}, {counted(comparison.n, 'test review')}"
        console.print(_table(("metric", "base", "fine-tuned", "improvement"), guide, title=title))
    console.print(_arm_table(short_arm_rows(comparison), console.width))
    _print_lines(verdict_lines(comparison), console)
    if rows := response_rows(comparison):
        console.print(_table(RESPONSE_HEAD, rows, pad_edge=False))
    _print_lines(cost_lines(comparison), console)
    _print_lines(prior_lines(comparison), console)
    _print_lines(confidence_lines(comparison), console)
    _print_lines(optional_lines(comparison), console)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, pad_edge: bool = True
) -> Table:
    """The first column on the left, the others on the right."""
    table = Table(head[0], box=SIMPLE_HEAD, title=title, pad_edge=pad_edge)
    for heading in head[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _arm_table(rows: Sequence[dict[str, str]], width: int) -> Table:
    """As many columns as fit: a number that was cut would read as another number."""
    columns = _fitting(rows, width)
    table = Table(title="all arms", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "left" if column == "arm" else "right"
        table.add_column(column, justify=justify, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row.get(column, "")) for column in columns))
    return table


def _fitting(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """The columns to show on a terminal with this many characters per line."""
    columns = list(rows[0])
    for spare in SPARE:
        if sum(_width(rows, column) for column in columns) <= width:
            break
        columns = [column for column in columns if column != spare]
    return columns


def _width(rows: Sequence[dict[str, str]], column: str) -> int:
    cells = (row.get(column, "") for row in rows)
    return max(map(len, [*column.split("\n"), *cells])) + GAP


def _print_lines(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(escape(line), highlight=False)
