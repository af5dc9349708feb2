"""Intervals and tests for accuracies. All are seeded, and none returns a number without data.

The confidence level is 95 % everywhere.

Sources: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212, for one proportion; McNemar, Psychometrika 12 (1947) 153-157, in
its exact binomial form, for two arms on the same reviews; Efron and Tibshirani, An Introduction to the Bootstrap
(1993), chapter 13, for the percentile interval of a difference; Holm, Scand. J. Stat. 6 (1979) 65-70, for many tests at
once; Connor, Biometrics 43 (1987) 207-211, for the power of a paired test; Tango, Statistics in Medicine 17 (1998)
891-908, for "not worse by more than a margin".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from reviewtune.errors import DataError

CONFIDENCE = 0.95
POWER = 0.8
ALPHA = 0.05
"""Significance level: without a true difference, at most 5 of 100 tests report one."""

Z, ONE_SIDED_Z = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(1 - ALPHA)
"""Quantile of the normal distribution at the end of a two-sided 95 % interval: 1.96."""

TINY = 1e-9
"""Where the search for a bound starts, next to the measured difference."""

DIGITS = 6
"""Decimals in files: enough for any test set, and the same bytes on every machine."""

RESAMPLES = 10_000
"""Bootstrap resamples of a difference between two arms, unless the caller passes evaluation.resamples."""

SCORE_RESAMPLES, CALIBRATION_RESAMPLES, SEED = 2_000, 500, 0
"""Bootstrap of one arm's own metrics: enough for the third decimal of a score and the second of a calibration error.

They are not settings, so that the metrics of any two projects, and of all arms of one, can be compared.
"""

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A measured value and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> "Interval":
        """Rounded as in the result files."""
        return Interval(round(self.value, DIGITS), round(self.low, DIGITS), round(self.high, DIGITS))

    def as_json(self) -> dict[str, float]:
        """The rounded values by name."""
        return {name: round(bound, DIGITS) for name, bound in vars(self).items()}

    def named(self, name: str) -> dict[str, float]:
        """The value under this name, and the bounds under NAME_low and NAME_high, as they are logged."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def excludes_zero(self) -> bool:
        """True when both bounds lie strictly on the same side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class McNemar:
    """The exact two-sided test of two arms on the same reviews; only reviews that one arm alone got right count."""

    only_first: int
    only_second: int
    p: float


def proportion(successes: int, n: int) -> Interval:
    """Wilson's score interval of successes / n: within [0, 1], and not empty at 0 or n successes.

    Raises:
        DataError: n is 0.
    """
    from scipy.stats import binomtest

    if n < 1:
        raise DataError("no interval without data: n is 0")
    bounds = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high))


def weighted_proportion(successes: Sequence[bool], weights: Sequence[float]) -> Interval:
    """Share of successes by weight, with Wilson's score interval for the effective number of observations.

    That number is (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965). With equal weights this is `proportion`.

    Args:
        successes: one value per observation.
        weights: of the observations, above 0.

    Raises:
        DataError: there is no observation, or the lengths differ.
    """
    if not len(successes) or len(successes) != len(weights):
        raise DataError(f"no interval without data: {len(successes)} observations, {len(weights)} weights")
    total = sum(weights)
    n = total**2 / sum(weight**2 for weight in weights)
    share = sum(weight for weight, success in zip(weights, successes, strict=True) if success) / total
    centre, scale = share + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * float(np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)))
    low, high = max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)
    return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Test whether two arms are right equally often. If they never disagree, p is 1.

    Args:
        first: whether the first arm is right, one value per review.
        second: the same of the second arm, for the same reviews in the same order.

    Raises:
        DataError: the lengths differ or are 0.
    """
    from scipy.stats import binomtest

    left, right = _paired(first, second)
    only_first, only_second = int((left & ~right).sum()), int((right & ~left).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p)


def accuracy_difference(
    first: Sequence[bool], second: Sequence[bool], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Accuracy of `first` minus accuracy of `second`, with the percentile interval of the paired bootstrap.

    A pair contributes +1, 0 or -1, so drawing n pairs with replacement is one multinomial draw: the same distribution,
    and as fast for 100,000 reviews as for 100. Two arms that never disagree have the empty interval 0..0, and with few
    disagreements the interval is too narrow; `verdict` therefore requires the exact test too.

    Args:
        first: whether the first arm is right, one value per review.
        second: the same of the second arm, for the same reviews in the same order.
        seed: of the bootstrap.
        resamples: how many times the reviews are drawn.

    Raises:
        DataError: the lengths differ or are 0.
    """
    left, right = _paired(first, second)
    n = len(left)
    gains, losses = int((left & ~right).sum()), int((right & ~left).sum())
    chances = np.array([gains, losses, n - gains - losses]) / n
    draws = np.random.default_rng(seed).multinomial(n, chances, size=resamples)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval((gains - losses) / n, float(low), float(high))


def score_interval(only_first: int, only_second: int, n: int) -> Interval:
    """Accuracy of the first arm minus that of the second, with Tango's score interval for paired proportions.

    Unlike the bootstrap's interval it is not empty when two arms never disagree, so that a few reviews on which they
    agree are not taken as a proof that they are equally good.

    Args:
        only_first: number of reviews that only the first arm got right.
        only_second: number of reviews that only the second arm got right.
        n: number of reviews.

    Raises:
        DataError: n is 0.
    """
    from scipy.optimize import brentq

    if n < 1:
        raise DataError("no interval without data: n is 0")
    value, counts = (only_first - only_second) / n, (only_first, only_second, n, Z)
    low = -1.0 if value == -1 else float(brentq(_beyond, -1.0, value - TINY, args=counts))
    high = 1.0 if value == 1 else float(brentq(_beyond, value + TINY, 1.0, args=counts))
    return Interval(value, low, high)


def least_difference(only_first: int, only_second: int, n: int) -> float:
    """Lower bound of the one-sided 95 % interval of the first arm's accuracy minus the second's, by Tango's method.

    With probability 95 % the true difference is above it. The arguments are those of `score_interval`.

    Raises:
        DataError: n is 0.
    """
    from scipy.optimize import brentq

    if n < 1:
        raise DataError("no interval without data: n is 0")
    value, counts = (only_first - only_second) / n, (only_first, only_second, n, ONE_SIDED_Z)
    return -1.0 if value == -1 else float(brentq(_beyond, -1.0, value - TINY, args=counts))


def least_reviews(margin: float) -> int:
    """How many reviews it takes to show a loss below `margin`, in (0, 1), of two arms that never disagree.

    Their score interval ends at z^2 / (n + z^2).
    """
    return int(np.ceil(Z**2 * (1 - margin) / margin))


def verdict(difference: Interval, p: float) -> Verdict:
    """Whether a difference is significant; it is only if both the exact test and the interval exclude 0."""
    if p >= ALPHA or not difference.excludes_zero():
        return "undecided"
    return "better" if difference.value > 0 else "worse"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in input order; rejecting those below ALPHA keeps the family-wise error rate at 5 %.

    The method steps down: the smallest of m p-values is multiplied by m, the next by m - 1, and so on; none is below
    the one before it or above 1.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0) if len(order) else raised
    return [float(p) for p in adjusted]


def detectable_difference(discordant: float, n: int) -> float | None:
    """The smallest true difference in accuracy that McNemar's test detects with probability POWER.

    It solves Connor's formula for the difference: n d^2 = (z_alpha/2 sqrt(s) + z_power sqrt(s - d^2))^2.

    Args:
        discordant: share of reviews, in [0, 1], that one arm alone got right.
        n: number of reviews.

    Returns:
        The difference in [0, 1]; None if the reviews are too few even when one arm wins all discordant ones.

    Raises:
        DataError: n is 0.
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
    """The percentile `percent` (0 to 100) of the values, in their unit, by linear interpolation between neighbours."""
    if not len(values):
        raise DataError(f"no {percent:g}th percentile without data")
    return float(np.percentile(np.asarray(values, dtype=float), percent))


def _beyond(difference: float, only_first: int, only_second: int, n: int, critical: float) -> float:
    """Tango's squared score statistic minus its critical value, times its variance: positive outside the interval."""
    linear = (2 * n - only_first + only_second) * difference - only_first - only_second
    root = np.sqrt(max(linear**2 + 8 * n * only_second * difference * (1 - difference), 0.0))
    second = (root - linear) / (4 * n)  # the share that only the second gets right, most likely under this difference
    variance = n * (2 * second + difference * (1 - difference))
    return float((only_first - only_second - n * difference) ** 2 - critical**2 * variance)


def _paired(first: Sequence[bool], second: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second):
        raise DataError(f"a paired test needs the same reviews in both arms: {len(first)} and {len(second)}")
    if not len(first):
        raise DataError("a paired test needs at least one review")
    return np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
