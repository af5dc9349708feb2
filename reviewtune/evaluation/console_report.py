"""One evaluation for people: scores with their intervals, unusable answers, and what changed since an earlier one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reviewtune.evaluation.earlier_metrics import Row
from reviewtune.evaluation.results import Evaluation, samples, unusable

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 5
FEW = 5  # reviews of a label
RAW_CHARACTERS = 200


def show(result: Evaluation, changes: Sequence[Row], notes: Sequence[str], console: "Console | None" = None) -> None:
    """Print it; `changes` are the lines of the table old, new, improvement; `notes` what to keep in mind."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    metrics = result.metrics
    console.print(f"{result.subject.model}: {metrics['n']} reviews", markup=False, highlight=False)
    table = Table("metric", box=SIMPLE_HEAD)
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right")
    accuracy = metrics["accuracy"]
    table.add_row("Accuracy", _percent(accuracy["value"]), _bounds(accuracy))
    for name in ("precision", "recall", "f1", "macro.f1"):
        interval = metrics["intervals"][name]
        table.add_row(name.capitalize().replace(".f1", " F1"), _percent(interval["value"]), _bounds(interval))
    for name, part in metrics["slices"].items():
        share = part["accuracy"]
        table.add_row(escape(f"Accuracy, {name} ({part['n']})"), _percent(share["value"]), _bounds(share))
    console.print(table)
    if changes:
        console.print(_changes(changes))
    for note in [*notes, *_too_few(result)]:
        console.print(f"note: {note}", highlight=False, markup=False)
    bad = unusable(result)
    if len(bad):
        console.print(f"{len(bad)} unusable answer(s), counted as errors:", markup=False)
        for line in samples(bad, shown=SHOWN, characters=RAW_CHARACTERS):
            console.print(line, markup=False, highlight=False)


def _too_few(result: Evaluation) -> list[str]:
    """An average over labels says little where some of them have hardly any review."""
    scarce = [f"{label} ({one.support})" for label, one in result.scores.per_label.items() if one.support < FEW]
    if not scarce:
        return []
    return [f"under {FEW} reviews of {', '.join(scarce)}: macro F1, and its interval, say little"]


def _changes(rows: Sequence[Row]) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("metric", box=SIMPLE_HEAD, title="compared with before")
    for name in ("old", "new", "improvement"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _bounds(interval: dict[str, float]) -> str:
    return f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"
