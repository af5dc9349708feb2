"""Does an arm know when it is right? Calibration, and accuracy when doubtful reviews may go unanswered.

A confidence is the probability in [0, 1] of the predicted label, from log-probabilities (label_scoring) or from the
linear model. A threshold is chosen on the validation reviews and measured on the test reviews, so no number is measured
on the reviews that its threshold was chosen on.

Sources: expected calibration error with bins of equal width, Naeini et al., AAAI 2015 (arXiv 1411.0160); coverage and
selective accuracy, El-Yaniv and Wiener, JMLR 11 (2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import ALPHA, Interval, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
NEVER = float("inf")
"""A threshold that no confidence reaches: no review is answered."""


class Bin(NamedTuple):
    """The reviews with a confidence in (low, high]; the first bin includes 0."""

    low: float
    high: float
    n: int
    confidence: float  # mean
    accuracy: Interval


class Point(NamedTuple):
    """Share answered and accuracy of those, when only confidences of at least `threshold` are answered."""

    threshold: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class Abstention:
    """The result of answering only reviews with a confidence of at least `threshold`.

    Args:
        threshold: chosen on other reviews; NEVER: no review is answered.
        answered: [reviews], whether each is answered.
        coverage: share answered.
        accuracy: accuracy of the answered reviews; None if no confidence was high enough.
    """

    threshold: float
    answered: "NDArray[np.bool_]"
    coverage: Interval
    accuracy: Interval | None


def reliability(confidence: Sequence[float], correct: Sequence[bool]) -> list[Bin]:
    """Accuracy of the reviews in each of BINS bins of equal width; empty bins are left out.

    `sklearn.calibration.calibration_curve` has the same bins but returns neither their bounds nor the number of reviews
    in each, which the intervals and the report need.

    Args:
        confidence: of each prediction, in [0, 1].
        correct: whether each prediction is right.
    """
    sure, right = _checked(confidence, correct)
    at = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int((at == number).sum()),
            float(sure[at == number].mean()),
            proportion(int(right[at == number].sum()), int((at == number).sum())),
        )
        for number in np.unique(at).tolist()
    ]


def calibration_error(confidence: Sequence[float], correct: Sequence[bool], *, seed: int, resamples: int) -> Interval:
    """Expected calibration error: mean gap between confidence and accuracy, bins weighted by their number of reviews.

    The interval is the bootstrap's. The error of a finite sample is biased upwards, so it does not reach 0.

    Args:
        confidence: of each prediction, in [0, 1].
        correct: whether each prediction is right.
        seed: of the bootstrap.
        resamples: how many times the reviews are drawn.
    """
    sure, right = _checked(confidence, correct)
    rng, n = np.random.default_rng(seed), len(sure)
    drawn = [_gap(sure[rows], right[rows]) for rows in rng.integers(0, n, size=(resamples, n))]
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(_gap(sure, right), float(low), float(high))


def coverage_curve(confidence: Sequence[float], correct: Sequence[bool]) -> list[Point]:
    """Coverage and accuracy for each possible threshold, from high to low; equal confidences share one point."""
    sure, right = _checked(confidence, correct)
    order = np.argsort(-sure, kind="stable")
    sure, hits = sure[order], np.cumsum(right[order])
    last = np.append(sure[1:] != sure[:-1], True)  # of the reviews with this confidence
    counts = np.arange(1, len(sure) + 1)
    return [
        Point(float(threshold), float(count / len(sure)), float(hit / count))
        for threshold, count, hit in zip(sure[last], counts[last], hits[last], strict=True)
    ]


def threshold_for(confidence: Sequence[float], correct: Sequence[bool], wanted: float) -> float:
    """The lowest threshold whose answered reviews have at least the accuracy `wanted`; NEVER if there is none."""
    reached = [point.threshold for point in coverage_curve(confidence, correct) if point.accuracy >= wanted - 1e-12]
    return min(reached, default=NEVER)


def abstain(confidence: Sequence[float], correct: Sequence[bool], *, threshold: float) -> Abstention:
    """Answer a review only if its confidence reaches the threshold.

    Args:
        confidence: of each prediction, in [0, 1].
        correct: whether each prediction is right.
        threshold: chosen on other reviews, by `threshold_for`.
    """
    sure, right = _checked(confidence, correct)
    answered = sure >= threshold
    n = int(answered.sum())
    hits = int(right[answered].sum())
    return Abstention(threshold, answered, proportion(n, len(sure)), proportion(hits, n) if n else None)


def _gap(sure: "Floats", right: "NDArray[np.bool_]") -> float:
    at = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    difference = np.bincount(at, weights=right - sure, minlength=BINS)
    return float(np.abs(difference).sum() / len(sure))


def _checked(confidence: Sequence[float], correct: Sequence[bool]) -> "tuple[Floats, NDArray[np.bool_]]":
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if len(sure) != len(right) or len(sure) < 2:
        raise DataError(
            "calibration needs at least two reviews, each with a confidence and an answer: "
            f"there are {len(sure)} confidences and {len(right)} answers"
        )
    if not ((sure >= 0) & (sure <= 1)).all():
        raise DataError("a confidence must lie between 0 and 1")
    return sure, right
