"""Bootstrap intervals of every score: reviews drawn again with replacement, thousands of times, all at once.

Every score here is a function of how many reviews of each kind there are (label and answer; for two arms label and both
answers), so drawing n reviews is one multinomial draw of those counts: the same distribution, and quick.
Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals, 95 %.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import INVALID, Scores
from reviewtune.evaluation.metrics.significance import ALPHA, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[Any]

NAMES = ("precision", "recall", "f1")


def score_intervals(scores: Scores, *, seed: int, resamples: int) -> dict[str, Interval]:
    """Of precision, recall and F1: weighted (`f1`), macro (`macro.f1`) and of each label (`label.late.f1`)."""
    confusion = np.array(scores.confusion, dtype=float)
    draws = np.random.default_rng(seed).multinomial(scores.n, confusion.ravel() / scores.n, size=resamples)
    values = _scores_of(confusion[None], scores.labels)
    drawn = _scores_of(draws.reshape(resamples, *confusion.shape), scores.labels)
    return _intervals(values, drawn)


def score_differences(
    y_true: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    labels: Sequence[str],
    seed: int,
    resamples: int,
) -> dict[str, Interval]:
    """The same scores of `first` minus those of `second` on the same reviews: the paired bootstrap."""
    if not len(y_true) == len(first) == len(second) > 0:
        raise DataError(f"paired scores need the same reviews: {len(y_true)}, {len(first)} and {len(second)}")
    kinds, counts = np.unique(np.array([y_true, first, second], dtype=str), axis=1, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(y_true), counts / len(y_true), size=resamples)
    one, two = (_into_confusion(kinds[0], answers, labels) for answers in kinds[1:])
    value, drawn = (
        {name: left[name] - right[name] for name in left}
        for left, right in (
            (_scores_of(_tables(some, one), labels), _scores_of(_tables(some, two), labels))
            for some in (counts[None], draws)
        )
    )
    return _intervals(value, drawn)


def _into_confusion(truth: "Counts", answers: "Counts", labels: Sequence[str]) -> "Counts":
    """[kinds, labels, labels + 1]: the cell that a review of each kind counts in."""
    rows = {label: at for at, label in enumerate([*labels, INVALID])}
    cells = np.zeros((len(truth), len(labels), len(labels) + 1))
    for at, (label, answer) in enumerate(zip(truth, answers, strict=True)):
        cells[at, rows[str(label)], rows[str(answer)]] = 1
    return cells


def _tables(draws: "Counts", cells: "Counts") -> "Counts":
    flat = draws.astype(float) @ cells.reshape(len(cells), -1)
    return flat.reshape(len(draws), *cells.shape[1:])


def _scores_of(tables: "Counts", labels: Sequence[str]) -> "dict[str, Counts]":
    """Scores of each of many confusion matrices [draws, labels, labels + 1]; 0 / 0 is 0, as in metrics.py."""
    hits = np.diagonal(tables, axis1=1, axis2=2).astype(float)
    support, answered = tables.sum(axis=2).astype(float), tables.sum(axis=1)[:, :-1].astype(float)
    each = dict(zip(NAMES, (_share(hits, answered), _share(hits, support)), strict=False))
    each["f1"] = _share(2 * hits, answered + support)
    weights = support / support.sum(axis=1, keepdims=True)
    found = {name: (each[name] * weights).sum(axis=1) for name in NAMES}
    found |= {f"macro.{name}": each[name].mean(axis=1) for name in NAMES}
    return found | {f"label.{label}.{name}": each[name][:, at] for at, label in enumerate(labels) for name in NAMES}


def _share(part: "Counts", whole: "Counts") -> "Counts":
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _intervals(values: "Mapping[str, Counts]", drawn: "Mapping[str, Counts]") -> dict[str, Interval]:
    """Each reaches to the value at least: a label with a handful of reviews is often not drawn at all, which pulls
    down."""
    ends = np.quantile(np.stack([drawn[name] for name in values]), [ALPHA / 2, 1 - ALPHA / 2], axis=1).tolist()
    points = [float(value[0]) for value in values.values()]
    return {
        name: Interval(point, min(low, point), max(high, point))
        for name, point, low, high in zip(values, points, *ends, strict=True)
    }
