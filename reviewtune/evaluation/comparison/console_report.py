"""The comparison on the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape

from reviewtune.core.formatting import counted
from reviewtune.core.terminal.tables import Column, FittedTable
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.findings import (
    confidence_lines,
    cost_lines,
    never_answered_lines,
    optional_lines,
    prior_lines,
    verdict_lines,
)
from reviewtune.evaluation.comparison.recommendation import recommendation_lines
from reviewtune.evaluation.comparison.tables import RESPONSE_HEAD, guide_rows, response_rows, short_arm_rows

SPARE = {"per s": 3, "hard": 2, "F1": 1}  # columns that a narrow terminal leaves out; reports/comparison.md has all
SHOWN_LABELS = 10  # that an arm never answers


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the tables and sentences, whatever the width of the terminal."""
    if guide := guide_rows(comparison):
        title = f"fine-tuned against {comparison.reference}, {counted(comparison.n, 'test review')}"
        console.print(_table(("metric", "base", "fine-tuned", "improvement"), guide, title=title))
    arms = short_arm_rows(comparison)
    cells = [[row.get(heading, "") for heading in arms[0]] for row in arms]
    console.print(_table(list(arms[0]), cells, title="all arms"))
    _print_lines(verdict_lines(comparison), console)
    _print_lines(recommendation_lines(comparison), console)
    if rows := response_rows(comparison):
        console.print(_table(RESPONSE_HEAD, rows))
    _print_lines(never_answered_lines(comparison, shown=SHOWN_LABELS), console)
    _print_lines(cost_lines(comparison), console)
    _print_lines(prior_lines(comparison), console)
    _print_lines(confidence_lines(comparison), console)
    _print_lines(optional_lines(comparison), console)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> FittedTable:
    """The first column on the left, the others on the right."""
    columns = [Column(heading, right=True, spare=SPARE.get(heading, 0)) for heading in head[1:]]
    table = FittedTable(Column(head[0]), *columns, title=title, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    return table


def _print_lines(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(escape(line), highlight=False)
