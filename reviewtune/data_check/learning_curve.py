"""Would more reviews help? Accuracy over 25, 50, 75 and 100 % of them, and where the curve is heading.

The forecast is the inverse power law: error(n) = floor + a * n^-b (Figueroa et al., BMC Medical Informatics and
Decision Making 12:8 (2012)). Its interval comes from drawing the reviews anew (bootstrap over groups of
near-duplicates), so it holds the chance of which reviews were at hand, not a curve that takes another course.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reviewtune.data_check.cross_validation import Material, fit
from reviewtune.evaluation.metrics.significance import DIGITS, Interval

SHARES = (0.25, 0.5, 0.75, 1.0)
REPEATS = 3
RESAMPLES = 200
AHEAD = (1.5, 2, 3, 4)  # forecasts for this many times the reviews
DOUBLE = AHEAD.index(2)
WORTH = 0.01  # a gain in accuracy that is worth labelling for

Verdict = Literal["learned nothing", "more reviews would help", "more reviews would hardly help", "undecided"]


@dataclass(frozen=True)
class Point:
    """Accuracy after training on n reviews (a mean over folds where these differ)."""

    n: int
    accuracy: Interval


@dataclass(frozen=True)
class Curve:
    """Measured points, how far the last is above giving every review the commonest label (right on the share
    `commonest`), forecasts beyond them, what doubling would gain, and the test of the method on what is known: the last
    point as the others foretell it. There are no forecasts where no power law fits or nothing was learned."""

    model: str
    measured: tuple[Point, ...]
    commonest: float
    lead: Interval
    verdict: Verdict = "undecided"
    forecast: tuple[Point, ...] = ()
    gain: Interval | None = None
    foretold: float | None = None

    def as_json(self) -> dict[str, Any]:
        points = {
            name: [{"n": p.n, **p.accuracy.as_json()} for p in getattr(self, name)] for name in ("measured", "forecast")
        }
        gain = self.gain.as_json() if self.gain else None
        foretold = None if self.foretold is None else round(self.foretold, DIGITS)
        idle = {"commonest": round(self.commonest, DIGITS), "lead": self.lead.as_json()}
        return {"model": self.model, **points, **idle, "gain": gain, "foretold": foretold, "verdict": self.verdict}


@dataclass(frozen=True)
class Law:
    """error(n) = floor + a * n^-b"""

    floor: float
    a: float
    b: float

    def accuracy(self, n: float) -> float:
        return 1 - min(1.0, self.floor + self.a * float(n**-self.b))


def measure(of: Material, *, seed: int, repeats: int = REPEATS) -> tuple[list[int], np.ndarray]:
    """Sizes and, for each review and size, the share of repeats [m, len(SHARES)] in which its label was found.

    Within a fold and a repeat a smaller training set is part of every larger one, stratified by label.
    """
    right = np.zeros((len(of.labels), len(SHARES)))
    largest = int(np.mean([len(train) for train, _ in of.folds]))
    for repeat in range(repeats):
        for number, (train, test) in enumerate(of.folds):
            order = _stratified_order(train, of.labels, seed=seed + 1000 * repeat + number)
            for column, share in enumerate(SHARES):
                if share < 1 or not repeat:  # the whole is the same in every repeat
                    right[test, column] += _right(of, order[: max(2, round(share * len(train)))], test, seed)
    right[:, :-1] /= repeats
    return [round(share * largest) for share in SHARES], right


def judge(
    model: str, sizes: Sequence[int], right: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> Curve:
    """The curve with its forecast. `right` [m, number of sizes] holds values in 0..1, labels [m] what would be right,
    groups [m] what is one."""
    names, counts = np.unique(labels, return_counts=True)
    idle = labels == names[counts.argmax()]
    drawn = _resampled(np.column_stack([right, right[:, -1] - idle]), groups, seed)
    means, drawn, leads = right.mean(axis=0), drawn[:, :-1], drawn[:, -1]
    measured = tuple(Point(n, _interval(means[i], drawn[:, i])) for i, n in enumerate(sizes))
    curve = Curve(model, measured, float(idle.mean()), _interval(means[-1] - idle.mean(), leads))
    return _foretold(curve, sizes, means, drawn) if curve.lead.low > 0 else replace(curve, verdict="learned nothing")


def _foretold(curve: Curve, sizes: Sequence[int], means: np.ndarray, drawn: np.ndarray) -> Curve:
    law = power_law(sizes, means)
    laws = [power_law(sizes, row, near=law) for row in drawn]
    known = [one for one in laws if one]
    if law is None or len(known) < len(laws) / 2:
        return curve
    ends = [round(sizes[-1] * times) for times in AHEAD]
    forecast = tuple(Point(n, _interval(law.accuracy(n), [one.accuracy(n) for one in known])) for n in ends)
    gains = [one.accuracy(ends[DOUBLE]) - one.accuracy(sizes[-1]) for one in known]
    gain = _interval(law.accuracy(ends[DOUBLE]) - law.accuracy(sizes[-1]), gains)
    before = power_law(sizes[:-1], means[:-1])
    foretold = before.accuracy(sizes[-1]) if before else None
    return replace(curve, verdict=_verdict(gain), forecast=forecast, gain=gain, foretold=foretold)


def power_law(sizes: Sequence[int], accuracies: Sequence[float] | np.ndarray, near: Law | None = None) -> Law | None:
    """The least-squares fit with floor in 0..lowest error and b in 0..2; None where it does not converge.

    The search begins at `near`, where a like curve was fitted already.
    """
    from scipy.optimize import least_squares

    n, errors = np.asarray(sizes, dtype=float), 1 - np.asarray(accuracies, dtype=float)
    lowest, scale = max(float(errors.min()), 1e-6), float(n[0])

    def misses(parameters: np.ndarray) -> np.ndarray:
        floor, a, b = parameters
        return np.asarray(floor + a * (n / scale) ** -b - errors)

    start = (lowest / 2, max(float(errors[0]) - lowest / 2, 1e-6), 0.5)
    if near:
        start = (min(near.floor, lowest), min(near.a * scale**-near.b, 2.0), near.b)
    found = least_squares(misses, start, bounds=([0, 0, 0], [lowest, 2, 2]), ftol=1e-6, xtol=1e-6, gtol=1e-6)
    if not found.success:
        return None
    floor, a, b = found.x
    return Law(float(floor), float(a * scale**b), float(b))


def _right(of: Material, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    if len(set(of.labels[train].tolist())) < 2:
        return np.asarray(of.labels[test] == of.labels[train[0]], dtype=float)
    answers = fit(of.features[train], of.labels[train], seed).predict(of.features[test])
    return np.asarray(answers == of.labels[test], dtype=float)


def _stratified_order(train: np.ndarray, labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Shuffled so that every beginning holds the labels in their proportions."""
    shuffled = np.random.default_rng(seed).permutation(train)
    place = np.zeros(len(shuffled))
    for label in np.unique(labels[shuffled]):
        rows = np.flatnonzero(labels[shuffled] == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return shuffled[np.argsort(place, kind="stable")]


def _resampled(right: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """[RESAMPLES, sizes]: accuracies when the groups are drawn with replacement."""
    _, number = np.unique(groups, return_inverse=True)
    many = int(number.max()) + 1
    weights = np.random.default_rng(seed).multinomial(many, np.full(many, 1 / many), size=RESAMPLES)[:, number]
    return np.asarray((weights @ right) / weights.sum(axis=1, keepdims=True))


def _interval(value: float, drawn: Sequence[float] | np.ndarray) -> Interval:
    low, high = np.quantile(np.asarray(drawn), [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def _verdict(gain: Interval) -> Verdict:
    if gain.low > WORTH:
        return "more reviews would help"
    return "more reviews would hardly help" if gain.high < WORTH else "undecided"
