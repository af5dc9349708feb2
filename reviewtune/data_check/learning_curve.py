"""Would more reviews help? Accuracy with 25, 50, 75 and 100 % of them, and a forecast beyond.

The forecast is an inverse power law: error(n) = floor + a * n^-b (Figueroa et al., BMC Medical Informatics and
Decision Making 12:8 (2012)). Its interval comes from a bootstrap over groups of near-duplicates. It covers the chance
in which reviews were collected, but not a curve that changes its shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reviewtune.data_check.cross_validation import FoldedReviews, fit
from reviewtune.data_check.facts import Facts
from reviewtune.evaluation.metrics.significance import DIGITS, Interval

SHARES = (0.25, 0.5, 0.75, 1.0)
REPEATS = 3
RESAMPLES = 200
AHEAD = (1.5, 2, 3, 4)  # the forecasts' sizes, as multiples of the number of reviews
DOUBLE = AHEAD.index(2)
WORTH = 0.01  # a gain in accuracy that is worth the labelling

Verdict = Literal["learned nothing", "more reviews would help", "more reviews would hardly help", "undecided"]


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after training on n reviews; n is a mean if the folds differ in size."""

    n: int
    accuracy: Interval


@dataclass(frozen=True)
class Curve:
    """The learning curve of a model; without a forecast if nothing was learned or no power law fits.

    Args:
        model: its name.
        measured: accuracy at each size.
        baseline: accuracy of always answering the most frequent label.
        lead: the last measured accuracy minus the baseline.
        verdict: whether more reviews would help.
        forecast: predicted accuracy for more reviews.
        gain: predicted gain from twice the reviews.
        backcast: the last measured accuracy as predicted from the other points, a test of the method.
    """

    model: str
    measured: tuple[CurvePoint, ...]
    baseline: float
    lead: Interval
    verdict: Verdict = "undecided"
    forecast: tuple[CurvePoint, ...] = ()
    gain: Interval | None = None
    backcast: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The curve in the output of `check-data --json`, where `commonest` and `foretold` keep their first names."""
        points = {
            name: [{"n": p.n, **p.accuracy.as_json()} for p in getattr(self, name)] for name in ("measured", "forecast")
        }
        gain = self.gain.as_json() if self.gain else None
        backcast = None if self.backcast is None else round(self.backcast, DIGITS)
        above = {"commonest": round(self.baseline, DIGITS), "lead": self.lead.as_json()}
        return {"model": self.model, **points, **above, "gain": gain, "foretold": backcast, "verdict": self.verdict}


@dataclass(frozen=True)
class CurveFacts(Facts):
    """Facts of the check for too little data."""

    curves: tuple[Curve, ...]

    def as_json(self) -> dict[str, Any]:
        return {"curves": [curve.as_json() for curve in self.curves]}


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + a * n^-b"""

    floor: float
    a: float
    b: float

    def accuracy(self, n: float) -> float:
        return 1 - min(1.0, self.floor + self.a * float(n**-self.b))

    def ahead(self, n: float, measured: float, further: float) -> float:
        """Accuracy at `further` reviews: `measured` at n reviews, plus the law's gain from there.

        The law passes near the measured points, not through them. Its own value at `further` may be below the accuracy
        that was measured with fewer reviews.
        """
        return min(1.0, measured + self.accuracy(further) - self.accuracy(n))


def measure(reviews: FoldedReviews, *, seed: int, repeats: int = REPEATS) -> tuple[list[int], np.ndarray]:
    """Train the linear baseline on the SHARES of each fold's training reviews.

    Within a fold and a repeat a smaller training set is part of every larger one, stratified by label.

    Args:
        reviews: the m reviews and their folds.
        seed: seed of the draws and of the classifier.
        repeats: draws per fold.

    Returns:
        The sizes, and for each review and size the share of repeats with the correct label [m, len(SHARES)].
    """
    right = np.zeros((len(reviews.labels), len(SHARES)))
    largest = int(np.mean([len(train) for train, _ in reviews.folds]))
    for repeat in range(repeats):
        for number, (train, test) in enumerate(reviews.folds):
            order = _stratified_order(train, reviews.labels, seed=seed + 1000 * repeat + number)
            for column, share in enumerate(SHARES):
                if share < 1 or not repeat:  # all reviews are the same in every repeat
                    right[test, column] += _right(reviews, order[: max(2, round(share * len(train)))], test, seed)
    right[:, :-1] /= repeats
    return [round(share * largest) for share in SHARES], right


def judge(
    model: str, sizes: Sequence[int], right: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> Curve:
    """Build the curve, its intervals and its forecast.

    Args:
        model: its name.
        sizes: training reviews of each point.
        right: for each review and size how often its label was correct, in [0, 1]; shape [m, number of sizes].
        labels: the correct labels [m].
        groups: group numbers [m] of near-duplicates, which the bootstrap draws together.
        seed: seed of the bootstrap.
    """
    names, counts = np.unique(labels, return_counts=True)
    most_frequent = labels == names[counts.argmax()]
    drawn = _resampled(np.column_stack([right, right[:, -1] - most_frequent]), groups, seed)
    means, drawn, leads = right.mean(axis=0), drawn[:, :-1], drawn[:, -1]
    measured = tuple(CurvePoint(n, _interval(means[i], drawn[:, i])) for i, n in enumerate(sizes))
    baseline = float(most_frequent.mean())
    curve = Curve(model, measured, baseline, _interval(means[-1] - baseline, leads))
    if curve.lead.low <= 0:
        return replace(curve, verdict="learned nothing")
    return _with_forecast(curve, sizes, means, drawn)


def _with_forecast(curve: Curve, sizes: Sequence[int], means: np.ndarray, drawn: np.ndarray) -> Curve:
    """Forecast by the law through `means` [sizes]; its intervals are from the laws through `drawn` [draws, sizes]."""
    law = fit_power_law(sizes, means)
    fits = [fit_power_law(sizes, row, near=law) for row in drawn]
    laws = [fitted for fitted in fits if fitted]
    if law is None or len(laws) < len(fits) / 2:
        return curve
    last = sizes[-1]
    ends = [round(last * times) for times in AHEAD]
    starts = [float(row[-1]) for row, fitted in zip(drawn, fits, strict=True) if fitted]
    ahead = {n: [each.ahead(last, start, n) for each, start in zip(laws, starts, strict=True)] for n in ends}
    expected = {n: law.ahead(last, float(means[-1]), n) for n in ends}
    forecast = tuple(CurvePoint(n, _interval(expected[n], ahead[n])) for n in ends)
    double = ends[DOUBLE]
    gain = _interval(expected[double] - means[-1], np.array(ahead[double]) - np.array(starts))
    earlier = fit_power_law(sizes[:-1], means[:-1])
    backcast = earlier.ahead(sizes[-2], float(means[-2]), last) if earlier else None
    return replace(curve, verdict=_verdict(gain), forecast=forecast, gain=gain, backcast=backcast)


def fit_power_law(
    sizes: Sequence[int], accuracies: Sequence[float] | np.ndarray, near: PowerLaw | None = None
) -> PowerLaw | None:
    """Fit a power law by least squares, with floor between 0 and the lowest error and b between 0 and 2.

    Args:
        sizes: training reviews of each point.
        accuracies: measured at these sizes.
        near: where the search starts, such as the fit of a similar curve.

    Returns:
        The law; None if the search does not converge.
    """
    from scipy.optimize import least_squares

    n, errors = np.asarray(sizes, dtype=float), 1 - np.asarray(accuracies, dtype=float)
    lowest, scale = max(float(errors.min()), 1e-6), float(n[0])

    def residuals(parameters: np.ndarray) -> np.ndarray:
        floor, a, b = parameters
        return np.asarray(floor + a * (n / scale) ** -b - errors)

    start = (lowest / 2, max(float(errors[0]) - lowest / 2, 1e-6), 0.5)
    if near:
        start = (min(near.floor, lowest), min(near.a * scale**-near.b, 2.0), near.b)
    fitted = least_squares(residuals, start, bounds=([0, 0, 0], [lowest, 2, 2]), ftol=1e-6, xtol=1e-6, gtol=1e-6)
    if not fitted.success:
        return None
    floor, a, b = fitted.x
    return PowerLaw(float(floor), float(a * scale**b), float(b))


def _right(reviews: FoldedReviews, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Whether each test review [len(test)] gets its label from a model of the training reviews, as 0.0 or 1.0."""
    features, labels = reviews.features, reviews.labels
    if len(set(labels[train].tolist())) < 2:
        return np.asarray(labels[test] == labels[train[0]], dtype=float)
    answers = fit(features[train], labels[train], seed).predict(features[test])
    return np.asarray(answers == labels[test], dtype=float)


def _stratified_order(train: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Shuffled so that every prefix has the labels in their proportions."""
    shuffled = np.random.default_rng(seed).permutation(train)
    place = np.zeros(len(shuffled))
    for label in np.unique(labels[shuffled]):
        rows = np.flatnonzero(labels[shuffled] == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return shuffled[np.argsort(place, kind="stable")]


def _resampled(right: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Means [RESAMPLES, columns] when the groups are drawn with replacement."""
    _, number = np.unique(groups, return_inverse=True)
    total = int(number.max()) + 1
    weights = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=RESAMPLES)[:, number]
    return np.asarray((weights @ right) / weights.sum(axis=1, keepdims=True))


def _interval(value: float, drawn: Sequence[float] | np.ndarray) -> Interval:
    low, high = np.quantile(np.asarray(drawn), [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def _verdict(gain: Interval) -> Verdict:
    if gain.low > WORTH:
        return "more reviews would help"
    return "more reviews would hardly help" if gain.high < WORTH else "undecided"
