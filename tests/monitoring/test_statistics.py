"""The statistics of `monitor`: known answers from outside, and simulations of what they promise."""

import csv
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from reviewtune.deployment.reference import Reference
from reviewtune.deployment.text_features import text_features
from reviewtune.evaluation.metrics.significance import holm
from reviewtune.monitoring import estimated_accuracy, new_topics
from reviewtune.monitoring.alarms import adjusted, weighted_holm
from reviewtune.monitoring.drift_tests import confidence, g_test, label_mix, lengths
from reviewtune.monitoring.new_topics import find_topics, typical_words
from reviewtune.monitoring.surges import surges
from reviewtune.monitoring.text_drift import text_drift

ROOT = Path(__file__).parents[2]
LABELS = ("a", "b", "c", "d")


def texts_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def answers(draw: np.random.Generator, n: int, mix: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, predictions and exact posterior confidences of four normal classes with equal priors."""
    truth = draw.choice(4, n, p=mix)
    places = 2.0 * np.eye(4)[truth] + draw.normal(0, 1, (n, 4))
    odds = np.exp(2.0 * places)
    posterior = odds / odds.sum(axis=1, keepdims=True)
    return truth, posterior.argmax(axis=1), posterior.max(axis=1)


def reference_of(draw: np.random.Generator, n: int) -> Reference:
    truth, predicted, sure = answers(draw, n, [0.25] * 4)
    return Reference(
        test_sha256="",
        labels=tuple(LABELS[place] for place in truth),
        predicted=tuple(LABELS[place] for place in predicted),
        confidence=tuple(map(float, sure)),
        lengths=(1,) * n,
        languages=("en",) * n,
        training=0,
    )


def test_equal_weights_give_holms_p_values() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]  # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert weighted_holm(p_values, [1.0] * 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert weighted_holm(p_values, [1.0] * 4) == pytest.approx(holm(p_values))


def test_a_group_of_many_tests_does_not_take_the_power_from_the_others() -> None:
    p_values = weighted_holm([0.02, *[0.5] * 100], [1.0, *[0.01] * 100])
    assert p_values[0] == pytest.approx(0.04)


def test_the_g_test_of_a_known_table() -> None:
    # 30:70 against 50:50 with equal expected counts of 40 and 60; V is phi
    p, effect = g_test(["a"] * 30 + ["b"] * 70, ["a"] * 50 + ["b"] * 50)
    assert p == pytest.approx(0.0060, abs=0.001)  # with Yates' correction, as R's chisq.test does (0.0061)
    assert effect == pytest.approx(0.2041, abs=1e-4)
    assert g_test(["a"] * 9, ["a"] * 5) == (1.0, 0.0)


def test_small_cells_are_tested_with_drawn_tables() -> None:
    p, _ = g_test(["a"] * 4, ["b"] * 4)
    assert p == pytest.approx(2 / 70, abs=0.006)  # Fisher: two of 70 tables


@pytest.mark.parametrize("mix", [[0.25] * 4, [0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.3, 0.6]])
def test_the_interval_of_the_estimated_accuracy_covers_it_under_label_shift(mix: list[float]) -> None:
    covered = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        reference = reference_of(draw, 190)
        truth, predicted, sure = answers(draw, 300, mix)
        found = estimated_accuracy.estimate(reference, estimated_accuracy.Answers(predicted, sure), LABELS)
        assert found is not None
        covered += found.accuracy.low <= (truth == predicted).mean() <= found.accuracy.high
    assert covered >= 35  # of 40; 95 % of them are 38


def test_the_label_mix_is_found_from_the_models_own_labels() -> None:
    draw = np.random.default_rng(0)
    reference = reference_of(draw, 2_000)
    _, predicted, sure = answers(draw, 4_000, [0.7, 0.1, 0.1, 0.1])
    found = estimated_accuracy.estimate(reference, estimated_accuracy.Answers(predicted, sure), LABELS)
    assert found is not None
    assert list(found.label_mix.values()) == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.03)


def test_a_new_topic_of_ten_percent_of_300_reviews_is_found_and_nothing_else() -> None:
    reviews, topic = texts_of(ROOT / "data/raw/reviews_en.csv"), texts_of(ROOT / "benchmarks/new_topic.csv")
    order = np.random.default_rng(1).permutation(len(reviews))
    shuffled = [reviews[place] for place in order]
    new, rest = [*shuffled[:270], *topic[:30]], shuffled[300:]
    training, test = text_features(rest[150:]), text_features(rest[:150])
    found = find_topics(training, test, text_features(new))
    assert found is not None
    assert found.p < 0.005
    members = found.groups[0].members
    assert sum(place >= 270 for place in members) >= 0.7 * len(members)
    inside = [new[place] for place in members]
    assert "app" in typical_words(inside, shuffled[:270])
    calm = find_topics(training, test, text_features(shuffled[:300]))
    assert calm is not None
    assert calm.p > 0.05


def test_many_texts_get_the_same_topics_by_the_faster_method(monkeypatch: pytest.MonkeyPatch) -> None:
    reviews, topic = texts_of(ROOT / "data/raw/reviews_en.csv"), texts_of(ROOT / "benchmarks/new_topic.csv")
    training, test = text_features(reviews[0:400:2]), text_features(reviews[1:200:2])
    new = text_features([*reviews[401:500], *topic[:20]])
    found = find_topics(training, test, new)
    monkeypatch.setattr(new_topics, "LANCZOS", 0)
    again = find_topics(training, test, new)
    assert found is not None
    assert again is not None
    assert found.groups
    assert again.p == found.p
    assert [set(group.members) for group in again.groups] == [set(group.members) for group in found.groups]


def test_nothing_changed_raises_an_alarm_in_few_reports() -> None:
    alarms = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        reference = reference_of(draw, 190)
        _, predicted, sure = answers(draw, 200, [0.25] * 4)
        found = estimated_accuracy.estimate(reference, estimated_accuracy.Answers(predicted, sure), LABELS)
        mix = label_mix(reference.predicted, [LABELS[place] for place in predicted])
        assert found is not None
        assert mix is not None
        assert reference.confidence is not None
        sizes = draw.integers(20, 300, (2, 200)).tolist()
        tests = adjusted([found.drop, mix, confidence(reference.confidence, sure.tolist()), lengths(*sizes)])
        alarms += any(test.is_alarm for test in tests)
    assert alarms <= 7  # 3 are expected at most; more than 7 have a chance of 1 in 100


def test_the_text_test_sees_other_texts_and_not_the_same() -> None:
    reviews = texts_of(ROOT / "data/raw/reviews_en.csv")
    topic = texts_of(ROOT / "benchmarks/new_topic.csv")
    first, second = text_features(reviews[0:200:2]), text_features(reviews[1:201:2])
    same = text_drift(first, second, None)
    other = text_drift(first, text_features(topic), None)
    assert same is not None
    assert other is not None
    assert same.p > 0.05
    assert (other.p < 0.005, other.auc > 0.8) == (True, True)


def test_a_label_that_surges_in_one_week_is_named() -> None:
    start = date(2026, 11, 1)
    days = [start + timedelta(days=place % 28) for place in range(280)]
    late = [(day - start).days > 20 for day in days]
    labels = ["damaged" if is_late and place % 2 else "late" for place, is_late in enumerate(late)]
    tests, note = surges(labels, days)
    alarms = [test.name for test in adjusted(tests) if test.is_alarm]
    assert alarms[0] == "damaged from 2026-11-22"
    assert "by week" in note
    assert surges(labels, [None] * 280) == ([], "")
