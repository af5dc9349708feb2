"""The page's tables over labels: each arm's confusion matrix, and F1 of every arm by label."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from reviewtune.core.formatting import points
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics.significance import Verdict

SHADES = 9  # of a cell, from a share of almost 0 to 1; a share of 0 has none


class Cell(NamedTuple):
    """A number and how dark its cell is: 0, or 1 to `SHADES`."""

    text: str
    shade: int


class Matrix(NamedTuple):
    """Rows are labels, columns are answers in the same order; the last column has unusable answers if there are any."""

    arm: str
    right: int
    n: int
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class LabelRow(NamedTuple):
    """One label: its test reviews, each arm's F1 in percent, and the fine-tuned arm's test against the reference."""

    label: str
    support: int
    f1: tuple[Cell, ...]
    difference: str
    verdict: Verdict | None


def matrices(arms: Sequence[Arm]) -> list[Matrix]:
    """The confusion matrix of each arm."""
    return [_matrix(arm) for arm in arms]


def label_rows(arms: Sequence[Arm], comparison: Comparison) -> list[LabelRow]:
    """One row per label."""
    test = comparison.finetuned_against.get(comparison.reference)
    scores = [dict(zip(arm.per_label["label"], arm.per_label["f1"].tolist(), strict=True)) for arm in arms]
    support = dict(zip(arms[0].per_label["label"], arms[0].per_label["support"].tolist(), strict=True))
    return [
        LabelRow(
            label=label,
            support=support[label],
            f1=tuple(Cell(f"{100 * of[label]:.0f}", shade(of[label])) for of in scores),
            difference=points(test.per_label[label].f1_difference.value) if test else "",
            verdict=test.per_label[label].verdict if test else None,
        )
        for label in comparison.labels
    ]


def shade(share: float) -> int:
    """How dark a cell is: 0 for a share of 0, else 1 to `SHADES`."""
    return min(int(share * SHADES) + 1, SHADES) if share > 0 else 0


def _matrix(arm: Arm) -> Matrix:
    labels, table = arm.per_label["label"].tolist(), arm.predictions
    counts = Counter(zip(table["label"].tolist(), table["predicted"].tolist(), strict=True))
    columns = (*labels, INVALID) if arm.metrics.invalid else tuple(labels)
    return Matrix(
        arm=arm.name,
        right=sum(counts[label, label] for label in labels),
        n=len(table),
        columns=columns,
        rows=tuple(_cells([counts[label, answer] for answer in columns]) for label in labels),
    )


def _cells(counts: Sequence[int]) -> tuple[Cell, ...]:
    total = sum(counts) or 1
    return tuple(Cell(str(count) if count else "", shade(count / total)) for count in counts)
