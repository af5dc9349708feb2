"""Confidence against scikit-learn's calibration curve, worked examples, and simulated models, some overconfident."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.cascade import First, Second, cascade
from reviewtune.evaluation.metrics.calibration import (
    NEVER,
    abstain,
    calibration_error,
    coverage_curve,
    reliability,
    threshold_for,
)

few = settings(max_examples=30)
answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60)


def model(n: int, seed: int, boast: float = 0.0) -> tuple[list[float], list[bool]]:
    """Confidences from 0.3 to 1, right as often as they say, less `boast`."""
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.3, 1, size=n)
    return sure.tolist(), (rng.random(n) < sure - boast).tolist()


def test_the_reliability_curve_is_scikit_learns() -> None:
    sure, right = model(500, seed=1)
    accuracy, confidence = calibration_curve(right, sure, n_bins=10)
    bins = reliability(sure, right)
    assert [part.confidence for part in bins] == pytest.approx(confidence.tolist())
    assert [part.accuracy.value for part in bins] == pytest.approx(accuracy.tolist())
    assert sum(part.n for part in bins) == 500


def test_the_calibration_error_of_a_worked_example() -> None:
    """0.9 and 0.9, one right: gap 0.4 of 2 reviews; 0.6, right: gap 0.4 of 1; 0.2, wrong: 0.2 of 1. (0.8+0.4+0.2)/4."""
    error = calibration_error([0.9, 0.9, 0.6, 0.2], [True, False, True, False], seed=1, resamples=100)
    assert error.value == pytest.approx(0.35)
    assert error.low <= error.value <= error.high + 0.3


def test_an_overconfident_model_has_a_greater_error_than_a_calibrated_one() -> None:
    honest = calibration_error(*model(2000, seed=2), seed=1, resamples=100)
    boastful = calibration_error(*model(2000, seed=2, boast=0.2), seed=1, resamples=100)
    assert honest.value < 0.05
    assert boastful.value == pytest.approx(0.2, abs=0.04)
    assert boastful.low > honest.high


def test_the_calibration_errors_interval_covers_the_truth_about_95_times_in_100() -> None:
    """Of a model that boasts by 0.2; an honest one's error, 0, is under every sample's."""
    errors = [calibration_error(*model(600, seed, boast=0.2), seed=seed, resamples=200) for seed in range(100)]
    assert 0.88 < np.mean([error.low <= 0.2 <= error.high for error in errors]) <= 0.99


@few
@given(answers)
def test_the_curve_ends_with_all_reviews_and_their_accuracy(rows: list[tuple[float, bool]]) -> None:
    sure, right = [a for a, _ in rows], [b for _, b in rows]
    curve = coverage_curve(sure, right)
    assert curve[-1].coverage == 1
    assert curve[-1].accuracy == pytest.approx(np.mean(right))
    assert [point.coverage for point in curve] == sorted({point.coverage for point in curve})
    for point in curve:
        kept = [hit for value, hit in rows if value >= point.threshold]
        assert (len(kept) / len(rows), np.mean(kept)) == pytest.approx((point.coverage, point.accuracy))


def test_the_threshold_leaves_as_few_reviews_as_the_wanted_accuracy_allows() -> None:
    sure, right = [0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False]
    assert threshold_for(sure, right, 1.0) == 0.8
    assert threshold_for(sure, right, 0.75) == 0.6
    assert threshold_for(sure, right, 0.1) == 0.5
    assert threshold_for([0.9, 0.8], [False, False], 0.5) == NEVER


def test_the_wanted_accuracy_is_about_the_accuracy_on_other_reviews() -> None:
    results = [abstain(*model(400, seed), threshold=threshold_for(*model(400, 99 + seed), 0.8)) for seed in range(40)]
    accuracies = [result.accuracy.value for result in results if result.accuracy]
    assert np.mean(accuracies) == pytest.approx(0.8, abs=0.02)
    assert 0.5 < np.mean([result.coverage.value for result in results]) < 0.95


def test_a_threshold_tuned_on_its_own_reviews_would_promise_too_much() -> None:
    """Confidence that says nothing: the best threshold of the same reviews looks good, that of the others does not."""
    rng = np.random.default_rng(4)
    wins = []
    for _ in range(40):
        sure, right = rng.random(60).tolist(), (rng.random(60) < 0.5).tolist()
        chosen = threshold_for(sure, right, 0.75)
        kept = [hit for value, hit in zip(sure, right, strict=True) if value >= chosen]
        others = rng.random(60).tolist(), (rng.random(60) < 0.5).tolist()
        fair = abstain(sure, right, threshold=threshold_for(*others, 0.75)).accuracy
        if kept and fair:
            wins.append(np.mean(kept) - fair.value)
    assert np.mean(wins) > 0.1


def table(sure: list[float], right: list[bool]) -> pd.DataFrame:
    predicted = ["a" if hit else "b" for hit in right]
    return pd.DataFrame({"label": "a", "predicted": predicted, "confidence": sure})


def test_a_cascade_is_as_good_as_who_answers_each_review_and_costs_what_they_cost() -> None:
    threshold = threshold_for(*model(400, seed=4), 0.9)
    first, second = First("small", table(*model(400, seed=3)), 0.02, threshold), Second("person", ["a"] * 400, 200.0)
    both = cascade(first, second, wanted_accuracy=0.9)
    assert both.threshold == pytest.approx(threshold, abs=1e-4)
    assert both.accuracy is not None
    assert both.second_accuracy is not None
    assert both.second_accuracy.value == 1
    assert both.routed == pytest.approx(1 - both.coverage.value)
    assert both.cascade_accuracy.value == pytest.approx(both.routed + (1 - both.routed) * both.accuracy.value)
    assert both.cost_per_1k == pytest.approx(0.02 + both.routed * 200)
    assert 0.1 < both.routed < 0.9


def test_a_cascade_needs_confidence_and_a_cost_that_is_known() -> None:
    predictions, second = table(*model(50, seed=3)), Second("b", ["a"] * 50, 1.0)
    assert cascade(First("a", predictions, None, 0.5), second, wanted_accuracy=0.9).cost_per_1k is None
    with pytest.raises(DataError, match="arm a has no confidence"):
        cascade(First("a", predictions.drop(columns="confidence"), 0, 0.5), second, wanted_accuracy=0.9)


@pytest.mark.parametrize(("sure", "right"), [([0.5], [True]), ([0.5, 1.5], [True, True]), ([0.5, 0.5], [True])])
def test_values_that_are_not_confidences_are_refused(sure: list[float], right: list[bool]) -> None:
    with pytest.raises(DataError):
        reliability(sure, right)
