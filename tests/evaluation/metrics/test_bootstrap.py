"""Bootstrap intervals of scores: against scikit-learn and scipy, and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import f1_score, precision_score, recall_score

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.bootstrap import score_differences, score_intervals
from reviewtune.evaluation.metrics.classification import INVALID, score

LABELS = ["late", "broken", "fine"]
few = settings(max_examples=12)
triples = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, INVALID]), st.sampled_from([*LABELS, INVALID])),
    min_size=1,
    max_size=60,
)


def drawn(n: int, seed: int, right: float = 0.7) -> tuple[list[str], list[str]]:
    """Labels in the shares 1/2, 3/10, 1/5, and answers that are right with this probability."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, size=n, p=[0.5, 0.3, 0.2])
    answers = np.where(rng.random(n) < right, truth, rng.choice(LABELS, size=n))
    return truth.tolist(), answers.tolist()


@few
@given(triples)
def test_values_are_scikit_learns(rows: list[tuple[str, str, str]]) -> None:
    truth, answers = [row[0] for row in rows], [row[1] for row in rows]
    intervals = score_intervals(score(truth, answers, labels=LABELS), seed=1, resamples=50)
    for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        for prefix, average in (("", "weighted"), ("macro.", "macro")):
            expected = function(truth, answers, labels=LABELS, average=average, zero_division=0)
            assert intervals[prefix + name].value == pytest.approx(expected)
        each = function(truth, answers, labels=LABELS, average=None, zero_division=0)
        assert [intervals[f"label.{label}.{name}"].value for label in LABELS] == pytest.approx(each.tolist())


@few
@given(triples)
def test_an_interval_lies_between_0_and_1_and_a_difference_is_of_the_values(rows: list[tuple[str, str, str]]) -> None:
    truth, first, second = ([row[at] for row in rows] for at in range(3))
    firsts, seconds = (score_intervals(score(truth, a, labels=LABELS), seed=1, resamples=50) for a in (first, second))
    for interval in firsts.values():
        assert -1e-12 <= interval.low <= interval.value <= interval.high <= 1 + 1e-12
    differences = score_differences(truth, first, second, labels=LABELS, seed=1, resamples=50)
    assert differences.keys() == firsts.keys()
    for name, interval in differences.items():
        assert interval.value == pytest.approx(firsts[name].value - seconds[name].value)
    same = score_differences(truth, first, first, labels=LABELS, seed=1, resamples=50)
    assert {(i.value, i.low, i.high) for i in same.values()} == {(0.0, 0.0, 0.0)}


def test_agrees_with_scipys_bootstrap_of_scikit_learns_f1() -> None:
    truth, answers = drawn(150, seed=3)
    at = np.arange(150)

    def f1(rows: np.ndarray) -> float:
        at = rows.astype(int)
        return float(f1_score(np.array(truth)[at], np.array(answers)[at], labels=LABELS, average="macro"))

    rng = np.random.default_rng(0)
    theirs = bootstrap((at,), f1, vectorized=False, n_resamples=400, method="percentile", rng=rng).confidence_interval
    ours = score_intervals(score(truth, answers, labels=LABELS), seed=1, resamples=20_000)["macro.f1"]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.016)


def test_the_paired_interval_is_that_of_rows_drawn_in_pairs() -> None:
    truth, first = drawn(200, seed=5)
    second = [a if i % 3 else "late" for i, a in enumerate(first)]
    rng, values = np.random.default_rng(0), []
    for _ in range(400):
        rows = rng.integers(0, 200, size=200)
        t, a, b = (np.array(column)[rows] for column in (truth, first, second))
        values.append(f1_score(t, a, average="weighted") - f1_score(t, b, average="weighted"))
    low, high = np.quantile(values, [0.025, 0.975])
    ours = score_differences(truth, first, second, labels=LABELS, seed=1, resamples=20_000)["f1"]
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.016)


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    truth, answers = drawn(200_000, seed=1)
    true = score_intervals(score(truth, answers, labels=LABELS), seed=1, resamples=100)
    covered = dict.fromkeys(("f1", "precision", "macro.f1", "label.fine.f1"), 0)
    for seed in range(150):
        intervals = score_intervals(score(*drawn(200, seed + 10), labels=LABELS), seed=seed, resamples=300)
        for name in covered:
            covered[name] += intervals[name].low <= true[name].value <= intervals[name].high
    assert {name: 0.89 < count / 150 < 0.99 for name, count in covered.items()} == dict.fromkeys(covered, True)


def test_intervals_of_differences_cover_the_truth_about_95_times_in_100() -> None:
    """Two arms that make independent errors."""

    def pair(n: int, seed: int) -> tuple[list[str], list[str], list[str]]:
        truth, better = drawn(n, seed, right=0.8)
        guesses = np.random.default_rng(seed + 1).random(n) < 0.6
        return truth, better, np.where(guesses, truth, np.roll(truth, 1)).tolist()

    true = score_differences(*pair(200_000, 1), labels=LABELS, seed=1, resamples=50)
    covered = dict.fromkeys(("f1", "macro.f1", "label.late.f1"), 0)
    for seed in range(120):
        intervals = score_differences(*pair(200, 10 + 2 * seed), labels=LABELS, seed=seed, resamples=300)
        for name in covered:
            covered[name] += intervals[name].low <= true[name].value <= intervals[name].high
    assert {name: 0.88 < count / 120 <= 0.995 for name, count in covered.items()} == dict.fromkeys(covered, True)


def test_a_seed_gives_the_same_intervals_again() -> None:
    scores = score(*drawn(80, seed=2), labels=LABELS)
    again = [score_intervals(scores, seed=seed, resamples=200) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_reviews_that_do_not_pair_are_refused() -> None:
    with pytest.raises(DataError, match="the same reviews: 1, 0 and 1"):
        score_differences(["late"], [], ["late"], labels=LABELS, seed=1, resamples=10)
