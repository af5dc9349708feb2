"""Bootstrap intervals of all scores at once: reviews are drawn again with replacement, thousands of times.

Every score depends only on how many reviews of each kind there are (label and answer; for two arms label and both
answers). Drawing n reviews is therefore one multinomial draw of those counts: the same distribution, and fast.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals, 95 %.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import INVALID, Scores
from reviewtune.evaluation.metrics.significance import ALPHA, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[Any]

NAMES = ("precision", "recall", "f1")
AT_ONCE = 250  # draws whose tables are in memory at a time


def score_intervals(scores: Scores, *, seed: int, resamples: int) -> dict[str, Interval]:
    """Intervals of precision, recall and F1: weighted (`f1`), macro (`macro.f1`) and per label (`label.late.f1`).

    Args:
        scores: the scores of one arm.
        seed: of the bootstrap.
        resamples: how many times the reviews are drawn.
    """
    confusion = np.array(scores.confusion)
    values = _scores_of(confusion[None], scores.labels)

    def drawn_scores(draws: "Counts") -> "dict[str, Counts]":
        return _scores_of(draws.reshape(len(draws), *confusion.shape), scores.labels)

    return _intervals(values, _drawn(confusion.ravel(), drawn_scores, seed=seed, resamples=resamples))


def score_differences(
    y_true: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    labels: Sequence[str],
    seed: int,
    resamples: int,
) -> dict[str, Interval]:
    """Scores of `first` minus those of `second`, with intervals of the paired bootstrap; names as in `score_intervals`.

    Args:
        y_true: the label of each review.
        first: the first arm's prediction for each review, a label or INVALID.
        second: the second arm's predictions for the same reviews.
        labels: the label list.
        seed: of the bootstrap.
        resamples: how many times the reviews are drawn.

    Raises:
        DataError: the lengths differ or are 0.
    """
    if not len(y_true) == len(first) == len(second) > 0:
        raise DataError(f"paired scores need the same reviews: {len(y_true)}, {len(first)} and {len(second)}")
    kinds, counts = np.unique(np.array([y_true, first, second], dtype=str), axis=1, return_counts=True)
    cells = [_into_confusion(kinds[0], answers, labels) for answers in kinds[1:]]

    def differences(reviews: "Counts") -> "dict[str, Counts]":
        left, right = (_scores_of(_tables(reviews, arm), labels) for arm in cells)
        return {name: left[name] - right[name] for name in left}

    return _intervals(differences(counts[None]), _drawn(counts, differences, seed=seed, resamples=resamples))


def _drawn(
    counts: "Counts", scores_of: "Callable[[Counts], dict[str, Counts]]", *, seed: int, resamples: int
) -> "dict[str, Counts]":
    """[resamples] of every score; a part at a time, because the tables of all draws take gigabytes with many labels."""
    draw, n = np.random.default_rng(seed), int(counts.sum())
    sizes = [min(AT_ONCE, resamples - first) for first in range(0, resamples, AT_ONCE)]
    parts = [scores_of(draw.multinomial(n, counts / n, size=size)) for size in sizes]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _into_confusion(truth: "Counts", answers: "Counts", labels: Sequence[str]) -> "Counts":
    """[kinds, labels, labels + 1]: 1 at the cell in which a review of each kind counts, otherwise 0.

    An answer outside the list, such as a label that was removed since, counts as none.
    """
    rows = {label: at for at, label in enumerate([*labels, INVALID])}
    cells = np.zeros((len(truth), len(labels), len(labels) + 1))
    for at, (label, answer) in enumerate(zip(truth, answers, strict=True)):
        cells[at, rows[str(label)], rows.get(str(answer), len(labels))] = 1
    return cells


def _tables(draws: "Counts", cells: "Counts") -> "Counts":
    flat = draws.astype(float) @ cells.reshape(len(cells), -1)
    return flat.reshape(len(draws), *cells.shape[1:])


def _scores_of(tables: "Counts", labels: Sequence[str]) -> "dict[str, Counts]":
    """[draws] scores of many confusion matrices [draws, labels, labels + 1]; 0 / 0 is 0, as in classification.py."""
    hits = np.diagonal(tables, axis1=1, axis2=2).astype(float)
    support, answered = tables.sum(axis=2).astype(float), tables.sum(axis=1)[:, :-1].astype(float)
    each = dict(zip(NAMES, (_share(hits, answered), _share(hits, support)), strict=False))
    each["f1"] = _share(2 * hits, answered + support)
    weights = support / support.sum(axis=1, keepdims=True)
    averages = {name: (each[name] * weights).sum(axis=1) for name in NAMES}
    averages |= {f"macro.{name}": each[name].mean(axis=1) for name in NAMES}
    return averages | {f"label.{label}.{name}": each[name][:, at] for at, label in enumerate(labels) for name in NAMES}


def _share(part: "Counts", whole: "Counts") -> "Counts":
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _intervals(values: "Mapping[str, Counts]", drawn: "Mapping[str, Counts]") -> dict[str, Interval]:
    """Percentile intervals, widened to contain the value.

    Resamples often miss a rare label entirely, which moves its whole interval below the value.
    """
    ends = np.quantile(np.stack([drawn[name] for name in values]), [ALPHA / 2, 1 - ALPHA / 2], axis=1).tolist()
    points = [float(value[0]) for value in values.values()]
    return {
        name: Interval(point, min(low, point), max(high, point))
        for name, point, low, high in zip(values, points, *ends, strict=True)
    }
