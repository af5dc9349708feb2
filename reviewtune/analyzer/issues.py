"""Which issues are frequent, and which have become more frequent: shares with intervals, and tests.

Reviews without a label are left out. Sources: Fisher's exact test of two shares; Holm, Scand. J. Stat. 6 (1979) 65-70,
for several labels at once; Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10, for the interval of a
difference, which combines the Wilson intervals of both shares.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reviewtune.analyzer.classifier import missing

if TYPE_CHECKING:
    from reviewtune.evaluation.metrics.significance import Interval


@dataclass(frozen=True, kw_only=True)
class IssueShare:
    """How frequent a label is.

    Attributes:
        label: the label.
        count: number of reviews with it.
        n: number of reviews with any label.
        share: count / n, with its 95 % interval (Wilson).
    """

    label: str
    count: int
    n: int
    share: "Interval"


@dataclass(frozen=True, kw_only=True)
class IssueChange:
    """How the share of a label changed.

    Attributes:
        label: the label.
        earlier: its share in the earlier reviews.
        later: its share in the later reviews.
        difference: later minus earlier share, in [-1, 1], with its 95 % interval (Newcombe).
        p: of Fisher's exact two-sided test.
        p_adjusted: the same, adjusted for the number of labels (Holm).
        is_emerging: whether the share is larger than before, with p_adjusted below 0.05.
    """

    label: str
    earlier: IssueShare
    later: IssueShare
    difference: "Interval"
    p: float
    p_adjusted: float
    is_emerging: bool


def issue_shares(labels: Sequence[str | None]) -> list[IssueShare]:
    """The labels that occur, the most frequent first; equal ones in the order of their first review.

    Raises:
        ConfigError: scipy is not installed.
    """
    counts = Counter(label for label in labels if label is not None)
    n = counts.total()
    return [_share(label, count, n) for label, count in counts.most_common()]


def issue_changes(
    earlier: Sequence[str | None], later: Sequence[str | None], labels: Sequence[str]
) -> list[IssueChange]:
    """The change of every label's share, the largest growth first; empty if one side has no label.

    Args:
        earlier: the labels of the earlier reviews.
        later: the labels of the later reviews.
        labels: all labels of the data set: each is one test, whether it occurs or not.

    Raises:
        ConfigError: scipy is not installed.
    """
    before, after = Counter(filter(None, earlier)), Counter(filter(None, later))
    n, m = before.total(), after.total()
    if not n or not m:
        return []
    p_values = [_fisher(before[label], n, after[label], m) for label in labels]
    pairs = [(_share(label, before[label], n), _share(label, after[label], m)) for label in labels]
    from reviewtune.evaluation.metrics.significance import holm

    changes = [_change(*pair, p, adjusted) for pair, p, adjusted in zip(pairs, p_values, holm(p_values), strict=True)]
    return sorted(changes, key=lambda change: -change.difference.value)


def _change(earlier: IssueShare, later: IssueShare, p: float, adjusted: float) -> IssueChange:
    from reviewtune.evaluation.metrics.significance import ALPHA

    difference = share_difference(earlier.share, later.share)
    return IssueChange(
        label=earlier.label,
        earlier=earlier,
        later=later,
        difference=difference,
        p=p,
        p_adjusted=adjusted,
        is_emerging=difference.value > 0 and adjusted < ALPHA,
    )


def share_difference(earlier: "Interval", later: "Interval") -> "Interval":
    """Later minus earlier share; both with their Wilson intervals (Newcombe's method 10)."""
    from reviewtune.evaluation.metrics.significance import Interval

    value = later.value - earlier.value
    down = math.hypot(later.value - later.low, earlier.high - earlier.value)
    up = math.hypot(later.high - later.value, earlier.value - earlier.low)
    return Interval(value, value - down, value + up)


def _share(label: str, count: int, n: int) -> IssueShare:
    _require_scipy()
    from reviewtune.evaluation.metrics.significance import proportion

    return IssueShare(label=label, count=count, n=n, share=proportion(count, n))


def _fisher(before: int, n: int, after: int, m: int) -> float:
    _require_scipy()
    import numpy as np
    from scipy.stats import fisher_exact

    return float(fisher_exact(np.array([[before, n - before], [after, m - after]])).pvalue)


def _require_scipy() -> None:
    if find_spec("scipy") is None:
        raise missing("the issues are compared by statistical tests", "scipy", "issues")
