"""Which arm to use: the cheapest one that is not worse than the most accurate one, chosen on the validation reviews.

An arm is "not worse" if the 95 % interval of its difference to the most accurate arm, on the same validation reviews,
excludes a loss of more than a margin: a test of non-inferiority (Piaggio and others, JAMA 308 (2012) 2594-2604). The
test reviews choose nothing; the report shows the arms' accuracies on them alongside.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reviewtune.core.formatting import counted, money, points, rate, with_interval
from reviewtune.evaluation.comparison.comparison_file import Candidate, Comparison, Recommendation
from reviewtune.evaluation.comparison.pairwise_tests import Pair, correct_pairs
from reviewtune.evaluation.metrics.significance import least_reviews, mcnemar, proportion, score_interval
from reviewtune.evaluation.metrics_file import ArmMetrics

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.02
"""The loss of accuracy that is accepted for a cheaper arm, a share in [0, 1]."""

NOT_CANDIDATES = ("majority", "checkpoint")  # a yardstick, and models that are measured for information


def recommend(
    arms: Sequence[ArmMetrics], validation: "Mapping[str, pd.DataFrame]", *, margin: float = MARGIN
) -> Recommendation:
    """Choose an arm. Arms of the kinds `NOT_CANDIDATES` take no part.

    Args:
        arms: all arms, in the order of the report.
        validation: predictions on the validation reviews, by arm: columns review_id, label, predicted.
        margin: the loss of accuracy that counts as not worse, in (0, 1).

    Raises:
        DataError: two arms classified different validation reviews.
    """
    possible = [arm for arm in arms if arm.kind not in NOT_CANDIDATES]
    costs = _costs(possible)
    known = {name: validation[name] for name in costs if name in validation}
    missing = tuple(name for name in costs if name not in known)
    if len(known) < 2:
        n = max(map(len, known.values()), default=0)
        return Recommendation(arm=None, best=None, margin=margin, n=n, candidates=(), without_validation=missing)
    best = min(known, key=lambda name: (-_accuracy(known[name]), _price(costs[name])))
    candidates = [_candidate(name, known[name], known[best], costs[name], margin) for name in known]
    candidates.sort(key=lambda one: (_price(one.cost_per_1k), -one.validation_accuracy.value))
    return Recommendation(
        arm=next(one.arm for one in candidates if one.not_worse or one.arm == best),
        best=best,
        margin=margin,
        n=len(known[best]),
        candidates=tuple(candidates),
        without_validation=missing,
    )


def recommendation_lines(comparison: Comparison, bold: str = "") -> list[str]:
    """What is recommended, why, and what it achieves on the test reviews; empty for a file without a recommendation.

    Args:
        comparison: content of comparison.json.
        bold: what to put around the recommendation, such as `**`.
    """
    chosen = comparison.recommendation
    if chosen is None:
        return []
    if chosen.arm is None:
        return [_impossible(chosen, bold)]
    lines = [f"{bold}recommended: {chosen.arm}{bold}, {_reason(chosen)}", _on_the_test_reviews(comparison, chosen)]
    if chosen.without_validation:
        names = ", ".join(chosen.without_validation)
        lines.append(f"not considered, because not asked about the validation reviews: {names}")
    return lines


def _candidate(name: str, table: "pd.DataFrame", best: "pd.DataFrame", cost: float | None, margin: float) -> Candidate:
    test = mcnemar(*correct_pairs(Pair(this=table, other=best)))
    difference = score_interval(test.only_first, test.only_second, len(table))
    return Candidate(
        arm=name,
        validation_accuracy=proportion(_hits(table), len(table)).rounded(),
        difference=difference.rounded(),
        not_worse=table is best or difference.low >= -margin,
        cost_per_1k=cost,
    )


def _costs(arms: Sequence[ArmMetrics]) -> dict[str, float | None]:
    """USD per 1,000 reviews by arm: the provider's, or gpt-4o-mini's prices if it charges nothing; None: not known."""
    charged = any(arm.cost_per_1k for arm in arms)
    costs = {arm.arm: arm.cost_per_1k if charged else arm.cost_per_1k_at_gpt_4o_mini for arm in arms}
    return costs | {arm.arm: 0.0 for arm in arms if arm.kind == "linear"}


def _price(cost: float | None) -> float:
    """For sorting: a cost that is not known comes last."""
    return float("inf") if cost is None else cost


def _hits(table: "pd.DataFrame") -> int:
    return int((table["label"] == table["predicted"]).sum())


def _accuracy(table: "pd.DataFrame") -> float:
    return _hits(table) / len(table)


def _impossible(chosen: Recommendation, bold: str) -> str:
    start = f"{bold}no recommendation{bold}: it is chosen on the validation reviews, and"
    if not chosen.without_validation:
        return f"{start} there is only one arm to choose from"
    names = ", ".join(chosen.without_validation)
    return f"{start} these arms were not asked about them: {names} (docs/evaluation.md: when an arm is)"


def _reason(chosen: Recommendation) -> str:
    by_name = {one.arm: one for one in chosen.candidates}
    this, on = by_name[str(chosen.arm)], f"on the {counted(chosen.n, 'validation review')}"
    accuracy = with_interval(this.validation_accuracy)
    if this.arm != chosen.best:
        best = by_name[str(chosen.best)]
        return (
            f"the cheapest arm that is not worse than {best.arm}, the most accurate one {on}: {accuracy} against "
            f"{with_interval(best.validation_accuracy)}, {_gap(this)}, margin {100 * chosen.margin:g} points"
        )
    cheaper = chosen.candidates[: chosen.candidates.index(this)]
    if not cheaper:
        return f"the most accurate arm {on} ({accuracy}) and the cheapest of those compared"
    gaps = "; ".join(f"{one.arm} {_gap(one)}" for one in cheaper)
    return (
        f"the most accurate arm {on} ({accuracy}); no cheaper arm is shown to be at most "
        f"{100 * chosen.margin:g} points worse there: {gaps}{_too_few(chosen)}"
    )


def _gap(one: Candidate) -> str:
    """`−1.0 points (95 % interval −1.9 to −0.1)`."""
    low, high = points(one.difference.low), points(one.difference.high)
    return f"{points(one.difference.value)} points (95 % interval {low} to {high})"


def _too_few(chosen: Recommendation) -> str:
    least = least_reviews(chosen.margin)
    return f" (with fewer than {least:,} validation reviews none can be)" if chosen.n < least else ""


def _on_the_test_reviews(comparison: Comparison, chosen: Recommendation) -> str:
    names = dict.fromkeys(name for name in (chosen.arm, chosen.best) if name)
    prices = " at gpt-4o-mini's prices" if comparison.is_free else ""
    costs = {one.arm: one.cost_per_1k for one in chosen.candidates}
    parts = [
        f"{name} {with_interval(arm.accuracy)}, {money(costs[name])} per 1,000 reviews{prices}, "
        f"{rate(arm.reviews_per_second)} reviews/s"
        for name in names
        for arm in [comparison.arm(name)]
    ]
    return f"accuracy on the test reviews, which chose nothing: {'; '.join(parts)}"
