"""The charts: axes with round ticks, marks at the right places, badges that do not cover each other."""

import re
from math import dist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.evaluation.comparison_page.axes import Axis, cost_axis, share_axis
from reviewtune.evaluation.comparison_page.charts import BADGE, WIDTH, XY, Priced, cost_chart, coverage_chart
from reviewtune.evaluation.metrics.significance import Interval

shares = st.floats(0, 1)


def test_ticks_are_round() -> None:
    assert Axis(0, 1, 0, 100).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Axis(0.5, 0.9, 0, 100).ticks() == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert Axis(0, 0.23, 0, 100).ticks() == [0, 0.05, 0.1, 0.15, 0.2]
    assert Axis(0.015, 3, 0, 100, logarithmic=True).ticks() == [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]


@given(shares, shares)
def test_an_axis_of_shares_holds_its_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    axis = share_axis(low, high, 300, 10)
    assert 0 <= axis.low <= low + 1e-9
    assert high - 1e-9 <= axis.high <= 1 + 1e-9
    assert 10 - 1e-6 <= axis.at(high) <= axis.at(low) <= 300 + 1e-6
    assert len(axis.ticks()) >= 2


@given(st.lists(st.floats(0, 1000), max_size=8))
def test_an_axis_of_costs_holds_its_values(costs: list[float]) -> None:
    axis = cost_axis(costs, 60, 400)
    assert all(60 <= axis.at(cost) <= 400 for cost in costs)


def point(number: int, accuracy: float, cost: float | None) -> Priced:
    return Priced(number, f"arm <{number}>", Interval(accuracy, accuracy - 0.05, accuracy + 0.05), cost)


def badges(chart: str) -> list[tuple[float, float]]:
    found = re.findall(rf'cx="([\d.-]+)" cy="([\d.-]+)" r="{BADGE:g}"', chart)
    return [(float(x), float(y)) for x, y in found]


def test_a_dearer_and_better_arm_is_farther_right_and_higher() -> None:
    chart = cost_chart([point(1, 0.5, 0.1), point(2, 0.8, 0.4)], "USD")
    (x1, y1), (x2, y2) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="4.5"', chart)
    assert float(x1) < float(x2)
    assert float(y1) > float(y2)
    assert "<" not in re.sub(r"<[^<>]*>", "", chart)
    assert "arm &lt;1&gt;: 50.0 %, $0.1" in chart


@pytest.mark.parametrize("costs", [(0.1, 0.1, 0.1), (0.1, 0.11, 0.1), (0.2, 0.2, 0.21)])
def test_badges_of_close_arms_do_not_cover_each_other(costs: tuple[float, ...]) -> None:
    places = badges(cost_chart([point(n, 0.7 + 0.01 * n, cost) for n, cost in enumerate(costs, 1)], "USD"))
    assert len(places) == 3
    assert all(dist(one, other) > 2 * BADGE for i, one in enumerate(places) for other in places[:i])


def test_an_arm_without_a_price_is_a_line() -> None:
    chart = cost_chart([point(1, 0.5, None), point(2, 0.8, 0.4)], "USD")
    assert "arm &lt;1&gt;: no price" in chart
    assert chart.count('r="4.5"') == 1


def test_a_curve_begins_and_ends_where_its_points_do() -> None:
    chart = coverage_chart({3: [XY(0.0, 1.0), XY(1.0, 0.5)]}, {3: "finetuned"})
    (path,) = re.findall(r'class="line" stroke-dasharray="[\d ]*" d="M([^"]*)"', chart)
    (x1, y1), (x2, y2) = (map(float, place.split()) for place in path.split("L"))
    assert (x1 < WIDTH / 4, x2 > WIDTH * 3 / 4, y1 < y2) == (True, True, True)
