"""Intervals and tests for accuracies; pure, seeded, and without a number for "no data".

Confidence is 95 % throughout. Sources: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212, for one proportion; McNemar,
Psychometrika 12 (1947) 153-157, in its exact binomial form, for two arms on the same reviews; Efron and Tibshirani, An
Introduction to the Bootstrap (1993), chapter 13, for the percentile interval of a difference; Holm, Scand. J. Stat. 6
(1979) 65-70, for many tests at once; Connor, Biometrics 43 (1987) 207-211, for what a paired test can detect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reviewtune.errors import DataError

CONFIDENCE = 0.95
POWER = 0.8
ALPHA = 0.05
"""A difference is called one only when chance alone would show it in fewer than 5 of 100 such tests."""

RESAMPLES = 10_000
DIGITS = 6

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A measured value and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> "Interval":
        """As the result files hold it."""
        return Interval(round(self.value, DIGITS), round(self.low, DIGITS), round(self.high, DIGITS))

    def as_json(self) -> dict[str, float]:
        """Rounded, as the report files hold it."""
        return {name: round(bound, DIGITS) for name, bound in vars(self).items()}

    def excludes_zero(self) -> bool:
        """True when both bounds lie strictly on the same side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class McNemar:
    """The exact two-sided test of two arms on the same reviews; only reviews where one arm alone is right count."""

    only_first: int
    only_second: int
    p: float


def proportion(successes: int, n: int) -> Interval:
    """Wilson's score interval of successes / n: stays inside 0..1 and is not empty at 0 or n successes."""
    from scipy.stats import binomtest

    if n < 1:
        raise DataError("no interval without data: n is 0")
    bounds = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Test whether two arms are right equally often; item i of both is the same review.

    When the arms never disagree, nothing speaks against equality: p = 1.
    """
    from scipy.stats import binomtest

    one, other = _paired(first, second)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p)


def accuracy_difference(
    first: Sequence[bool], second: Sequence[bool], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Accuracy of `first` minus accuracy of `second`, with the percentile interval of the paired bootstrap.

    A pair contributes +1, 0 or -1, so drawing n pairs with replacement is one multinomial draw: the same distribution,
    and as fast for 100,000 reviews as for 100. Two arms that never disagree give the empty interval 0..0, a handful of
    disagreements one that is too narrow; that is why `verdict` also asks for the exact test.
    """
    one, other = _paired(first, second)
    n = len(one)
    gains, losses = int((one & ~other).sum()), int((other & ~one).sum())
    chances = np.array([gains, losses, n - gains - losses]) / n
    draws = np.random.default_rng(seed).multinomial(n, chances, size=resamples)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval((gains - losses) / n, float(low), float(high))


def verdict(difference: Interval, p: float) -> Verdict:
    """Name a difference only when the exact test and the interval agree that it is not 0."""
    if p >= ALPHA or not difference.excludes_zero():
        return "undecided"
    return "better" if difference.value > 0 else "worse"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given: below ALPHA, all such claims together err in 5 of 100.

    Step down: the smallest times m, the next times m - 1, ... never below the one before, at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0) if len(order) else raised
    return [float(p) for p in adjusted]


def detectable_difference(discordant: float, n: int) -> float | None:
    """The smallest true difference in accuracy that McNemar's test finds in POWER of such test sets of n reviews.

    `discordant` is the share of reviews, in [0, 1], on which one arm alone is right. Connor's formula for n, solved for
    the difference: n d^2 = (z_alpha/2 sqrt(s) + z_power sqrt(s - d^2))^2. None: even if one arm won all of them, these
    are too few to tell.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if n < 1:
        raise DataError("no detectable difference without data: n is 0")
    alpha, power = norm.isf(ALPHA / 2), norm.isf(1 - POWER)

    def too_few(difference: float) -> float:
        spread = max(discordant - difference**2, 0.0)
        return float(alpha * np.sqrt(discordant) + power * np.sqrt(spread) - difference * np.sqrt(n))

    if discordant <= 0 or too_few(discordant) > 0:
        return None
    return float(brentq(too_few, 0.0, discordant))


def percentile(values: Sequence[float], percent: float) -> float:
    """The given percentile (0..100), between neighbours by linear interpolation; latencies keep their unit."""
    if not len(values):
        raise DataError(f"no {percent:g}th percentile without data")
    return float(np.percentile(np.asarray(values, dtype=float), percent))


def _paired(first: Sequence[bool], second: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second):
        raise DataError(f"a paired test needs the same reviews in both arms: {len(first)} and {len(second)}")
    if not len(first):
        raise DataError("a paired test needs at least one review")
    return np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
