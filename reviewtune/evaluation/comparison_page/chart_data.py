"""The figures that the page's charts draw, from the comparison and the arms' predictions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.confidence_report import coverage_table
from reviewtune.evaluation.comparison.outputs import arm_points
from reviewtune.evaluation.comparison_page.charts import (
    XY,
    Priced,
    cost_chart,
    coverage_chart,
    reliability_chart,
)

CURVE_POINTS = 120  # of a curve at most; more are not seen


class ArmCharts(NamedTuple):
    """The charts as SVG; empty where there is nothing to draw."""

    cost: str
    reliability: str
    coverage: str


def arm_charts(comparison: Comparison, arms: Sequence[Arm], numbers: Mapping[str, int]) -> ArmCharts:
    """Draw all charts.

    Args:
        comparison: content of comparison.json.
        arms: the compared arms.
        numbers: each arm's number on the page, from 1 on.
    """
    names = {number: name for name, number in numbers.items()}
    bins = {
        numbers[name]: [XY(each.confidence, each.accuracy.value) for each in report.reliability]
        for name, report in comparison.confidence.items()
    }
    return ArmCharts(
        cost=_cost(comparison, numbers),
        reliability=reliability_chart(bins, names) if bins else "",
        coverage=coverage_chart(_curves(arms, numbers), names) if bins else "",
    )


def _cost(comparison: Comparison, numbers: Mapping[str, int]) -> str:
    """Empty if no price is known, as then there is nothing to compare."""
    places = [Priced(numbers[arm.name], arm.name, arm.accuracy, arm.cost_per_1k) for arm in arm_points(comparison)]
    if all(place.cost is None for place in places):
        return ""
    at = " at gpt-4o-mini's prices" if comparison.is_free else ""
    return cost_chart(places, f"USD for 1,000 reviews{at}")


def _curves(arms: Sequence[Arm], numbers: Mapping[str, int]) -> dict[int, list[XY]]:
    table = coverage_table({arm.name: arm.predictions for arm in arms})
    curves = {}
    for name, curve in table.groupby("arm", sort=False):
        points = [XY(x, y) for x, y in zip(curve["coverage"].tolist(), curve["accuracy"].tolist(), strict=True)]
        curves[numbers[str(name)]] = _thinned(points)
    return curves


def _thinned(points: list[XY]) -> list[XY]:
    """At most CURVE_POINTS of them, evenly drawn, with the last one."""
    step = -(-len(points) // CURVE_POINTS)
    return [*points[:-1:step], points[-1]]
