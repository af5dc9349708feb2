"""Does an arm know when it is right? Reliability, and what accuracy it reaches when it may leave doubtful reviews.

A confidence is the probability in [0, 1] of the label that was given, from log-probabilities (label_scores.py) or the
linear model. A threshold is always chosen on one half of the reviews and measured on the other, and the reverse, so no
figure here was measured on the reviews that it was tuned on.

Sources: expected calibration error with bins of equal width, Naeini et al., AAAI 2015 (arXiv 1411.0160); coverage and
selective accuracy, El-Yaniv and Wiener, JMLR 11 (2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import ALPHA, Interval, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
NEVER = float("inf")
"""A threshold that no confidence reaches: every review is left to others."""


class Bin(NamedTuple):
    """Reviews with confidence in (low, high], the first bin with 0 as well."""

    low: float
    high: float
    n: int
    confidence: float  # mean
    accuracy: Interval


class Point(NamedTuple):
    """Answering only where the confidence is at least `threshold`."""

    threshold: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class Abstention:
    """What answering only the surer reviews gave, measured on reviews other than the threshold was chosen on.

    `accuracy` is None when nothing was sure enough; `thresholds` are those of the two halves.
    """

    wanted: float
    thresholds: tuple[float, float]
    answered: "NDArray[np.bool_]"
    coverage: Interval
    accuracy: Interval | None

    def as_json(self) -> dict[str, Any]:
        return {
            "wanted_accuracy": self.wanted,
            "thresholds": [None if one == NEVER else round(one, 4) for one in self.thresholds],
            "coverage": self.coverage.as_json(),
            "accuracy": self.accuracy.as_json() if self.accuracy else None,
        }


def reliability(confidence: Sequence[float], correct: Sequence[bool]) -> list[Bin]:
    """Accuracy of the reviews in each of BINS bins of confidence; empty bins are left out."""
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
    """Expected calibration error: the mean gap between confidence and accuracy, bins weighted by their reviews.

    The interval is the bootstrap's. The error of a finite sample is biased upwards, so it does not reach 0.
    """
    sure, right = _checked(confidence, correct)
    rng, n = np.random.default_rng(seed), len(sure)
    drawn = [_gap(sure[rows], right[rows]) for rows in rng.integers(0, n, size=(resamples, n))]
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(_gap(sure, right), float(low), float(high))


def coverage_curve(confidence: Sequence[float], correct: Sequence[bool]) -> list[Point]:
    """From the surest reviews to all of them; reviews of equal confidence come together."""
    sure, right = _checked(confidence, correct)
    order = np.argsort(-sure, kind="stable")
    sure, hits = sure[order], np.cumsum(right[order])
    last = np.append(sure[1:] != sure[:-1], True)  # of its confidence
    counts = np.arange(1, len(sure) + 1)
    return [
        Point(float(threshold), float(count / len(sure)), float(hit / count))
        for threshold, count, hit in zip(sure[last], counts[last], hits[last], strict=True)
    ]


def threshold_for(confidence: Sequence[float], correct: Sequence[bool], wanted: float) -> float:
    """The lowest confidence from which on the accuracy is at least `wanted`; NEVER when there is none."""
    reached = [point.threshold for point in coverage_curve(confidence, correct) if point.accuracy >= wanted - 1e-12]
    return min(reached, default=NEVER)


def abstain(confidence: Sequence[float], correct: Sequence[bool], *, wanted: float, seed: int) -> Abstention:
    """Answer only where the confidence reaches the threshold that the other half of the reviews calls for."""
    sure, right = _checked(confidence, correct)
    half = np.random.default_rng(seed).permutation(len(sure)) % 2
    thresholds = [threshold_for(sure[half != side], right[half != side], wanted) for side in (0, 1)]
    answered = sure >= np.where(half == 0, *thresholds)
    n = int(answered.sum())
    return Abstention(
        wanted,
        (thresholds[0], thresholds[1]),
        answered,
        proportion(n, len(sure)),
        proportion(int(right[answered].sum()), n) if n else None,
    )


def _gap(sure: "Floats", right: "NDArray[np.bool_]") -> float:
    at = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    difference = np.bincount(at, weights=right - sure, minlength=BINS)
    return float(np.abs(difference).sum() / len(sure))


def _checked(confidence: Sequence[float], correct: Sequence[bool]) -> "tuple[Floats, NDArray[np.bool_]]":
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if len(sure) != len(right) or len(sure) < 2:
        raise DataError(f"calibration needs two reviews or more: {len(sure)} confidences, {len(right)} answers")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise DataError("a confidence must lie between 0 and 1")
    return sure, right
