"""One evaluation as rich renderables: scores with intervals, unusable answers, changes since an earlier evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reviewtune.core.formatting import counted, percent
from reviewtune.core.terminal.tables import Column, FittedTable
from reviewtune.evaluation.earlier_metrics import Change
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.evaluation.metrics_file import ArmMetrics
from reviewtune.evaluation.notices.arm_sentences import choice_sentence, never_answered_sentence
from reviewtune.evaluation.results import Evaluation, samples, unusable

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 5
FEW = 5  # reviews of a label
RAW_CHARACTERS = 200
AVERAGES = ("precision", "recall", "f1", "macro.f1")


def report(
    result: Evaluation, changes: Sequence[Change], notes: Sequence[str], *, difference: str = ""
) -> "list[RenderableType]":
    """What to print about an evaluation, from top to bottom.

    Args:
        result: the evaluation.
        changes: rows of the table old, new, improvement; none: no table.
        notes: what the reader should know when reading the scores.
        difference: a sentence about the changes, with their interval and test; printed below their table.
    """
    from rich.text import Text

    bad = unusable(result)
    lines = [f"note: {note}" for note in [*notes, *_rare_labels(result), *_about_labels(result)]]
    if len(bad):
        lines.append(f"{counted(len(bad), 'unusable answer')}, counted as errors:")
        lines += samples(bad, shown=SHOWN, characters=RAW_CHARACTERS)
    return [
        Text(f"{result.subject.model}: {counted(result.metrics.n, 'review')}"),
        _score_table(result.metrics),
        *([_change_table(changes)] if changes else []),
        *([Text(difference)] if difference else []),
        *(Text(line) for line in lines),
    ]


def _score_table(metrics: ArmMetrics) -> "FittedTable":
    from rich.box import SIMPLE_HEAD

    table = FittedTable("metric", Column("value", right=True), Column("95 % interval", right=True), box=SIMPLE_HEAD)
    table.add_row("Accuracy", *_cells(metrics.accuracy))
    for name in AVERAGES:
        if metrics.intervals:
            table.add_row(name.capitalize().replace(".f1", " F1"), *_cells(metrics.intervals[name]))
    for name, part in metrics.slices.items():
        table.add_row(f"Accuracy, {name} ({part.n})", *_cells(part.accuracy))
    return table


def _change_table(changes: Sequence[Change]) -> "FittedTable":
    from rich.box import SIMPLE_HEAD

    numbers = [Column(name, right=True) for name in ("old", "new", "improvement")]
    table = FittedTable("metric", *numbers, box=SIMPLE_HEAD, title="compared with before")
    for change in changes:
        table.add_row(*change)
    return table


def _rare_labels(result: Evaluation) -> list[str]:
    """A note if an average over labels counts some that have hardly any review."""
    rare = [f"{label} ({score.support})" for label, score in result.scores.per_label.items() if score.support < FEW]
    if not rare:
        return []
    return [f"under {FEW} reviews of {', '.join(rare)}: macro F1 and its interval are not reliable"]


def _about_labels(result: Evaluation) -> list[str]:
    """How the labels were decided, and which are never answered."""
    scores = result.scores
    never = never_answered_sentence(result.subject.model, scores.never_answered, of=len(scores.labels))
    return [line for line in (choice_sentence(result.metrics), never) if line]


def _cells(interval: Interval) -> tuple[str, str]:
    return percent(interval.value), f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
