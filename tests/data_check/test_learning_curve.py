"""The sentence about the learning curve never contradicts itself, whatever was measured."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reviewtune.data_check import learning_curve
from reviewtune.data_check.training_checks import too_little_data

SIZES = [24, 48, 72, 96]
REVIEWS = 60
SENTENCE = re.compile(
    r"x: (?P<measured>[\d.]+)% with 96 training reviews; 192 would give (?P<forecast>[\d.]+)%, "
    r"(?P<gain>\+[\d.]+) points \((?P<low>[+−][\d.]+) to (?P<high>[+−][\d.]+)\), if the curve keeps its shape: "
    r"(?P<verdict>.*)"
)
ROUNDING = 0.1001  # points, of a sum of two numbers that are shown with one decimal


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(correct=st.lists(st.integers(0, REVIEWS), min_size=4, max_size=4))
@example(correct=[48, 55, 57, 60])  # everything is right with all reviews, but the fitted law is below that
@example(correct=[60, 55, 50, 45])  # the more reviews, the worse
@example(correct=[30, 45, 40, 44])
@example(correct=[20, 30, 40, 50])
def test_measured_forecast_gain_and_verdict_agree(correct: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curve, "RESAMPLES", 30)
    right = np.arange(REVIEWS)[:, None] < np.array(correct)
    labels, groups = np.arange(REVIEWS) % 4, np.random.default_rng(1).permutation(REVIEWS)
    curve = learning_curve.judge("x", SIZES, right * 1.0, labels, groups, seed=1)
    says = too_little_data([curve]).says
    if curve.gain is None:
        assert "would" not in says
        return
    shown = SENTENCE.fullmatch(says)
    assert shown, says
    measured, forecast, gain, low, high = (
        float(shown[name].replace("−", "-")) for name in ("measured", "forecast", "gain", "low", "high")
    )
    assert measured <= forecast <= 100, says
    assert abs(measured + gain - forecast) <= ROUNDING, says
    assert low <= gain <= high, says
    if shown["verdict"] == "more reviews would help":
        assert forecast > measured, says
        assert low >= 1.0, says
    if shown["verdict"] == "more reviews would hardly help":
        assert high <= 1.0, says
    if measured == 100:
        assert shown["verdict"] == "more reviews would hardly help", says


def test_forecasts_do_not_fall() -> None:
    right = np.arange(REVIEWS)[:, None] < np.array([48, 55, 57, 60])
    curve = learning_curve.judge("x", SIZES, right * 1.0, np.arange(REVIEWS) % 4, np.arange(REVIEWS), seed=1)
    values = [point.accuracy.value for point in (curve.measured[-1], *curve.forecast)]
    assert values == sorted(values)
    assert values[0] == 1
