"""Control false alarms over all tests of a report: Holm's procedure with weights.

Source: Holm, Scand. J. Stat. 6 (1979) 65-70, section 4. Each group of tests has the weight 1, which its tests share, so
that thirty labels do not take the power from everything else. The chance of any alarm if nothing changed is at most
ALPHA, however the tests depend on each other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reviewtune.evaluation.metrics.significance import ALPHA, DIGITS
from reviewtune.monitoring.report_file import Test


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A test before its p-value is adjusted; fields as those of `Test`."""

    group: str
    name: str
    method: str
    p: float
    effect: float
    effect_name: str
    least_effect: float
    seen: str


def adjusted(tests: Sequence[Raw]) -> list[Test]:
    """The tests with adjusted p-values: alarms first, then by p-value."""
    sizes = Counter(test.group for test in tests)
    p_values = weighted_holm([test.p for test in tests], [1 / sizes[test.group] for test in tests])
    done = [_with(test, p) for test, p in zip(tests, p_values, strict=True)]
    return sorted(done, key=lambda test: (not test.is_alarm, test.p_adjusted, test.p))


def weighted_holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Adjusted p-values in input order; with equal weights they are those of Holm's usual procedure.

    The tests are ordered by p / weight; each ratio is multiplied by the sum of the weights of the tests that are left.
    """
    p, weight = np.asarray(p_values, dtype=float), np.asarray(weights, dtype=float)
    if not len(p):
        return []
    order = np.argsort(p / weight, kind="stable")
    left = np.cumsum(weight[order][::-1])[::-1]
    result = np.empty(len(p))
    result[order] = np.minimum(np.maximum.accumulate(p[order] / weight[order] * left), 1.0)
    return [float(value) for value in result]


def _with(test: Raw, p_adjusted: float) -> Test:
    return Test(
        group=test.group,
        name=test.name,
        method=test.method,
        p=round(test.p, 2 * DIGITS),
        p_adjusted=round(p_adjusted, 2 * DIGITS),
        effect=round(test.effect, DIGITS),
        effect_name=test.effect_name,
        least_effect=test.least_effect,
        seen=test.seen,
        is_alarm=p_adjusted < ALPHA and test.effect >= test.least_effect,
    )
