"""Intervals and tests by their definitions, against scipy and statsmodels, and by simulation."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, chisquare, permutation_test

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import (
    ALPHA,
    Interval,
    accuracy_difference,
    detectable_difference,
    holm,
    least_reviews,
    mcnemar,
    percentile,
    proportion,
    score_interval,
    verdict,
)

few = settings(max_examples=40)
hits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def paired(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two arms' hits with these counts of agreement and disagreement."""
    left = [True] * (both + first) + [False] * (second + neither)
    return left, [True] * both + [False] * first + [True] * second + [False] * neither


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_statsmodels(successes: int, n: int, low: float, high: float) -> None:
    """statsmodels 0.15.0: proportion_confint(successes, n, method="wilson"), for the examples of R. G. Newcombe,
    Statistics in Medicine 17 (1998) 857-872, table I."""
    interval = proportion(successes, n)
    assert (interval.value, round(interval.low, 4), round(interval.high, 4)) == (successes / n, low, high)


@few
@given(st.integers(1, 500), st.data())
def test_wilsons_interval_ends_where_pearsons_test_begins_to_reject(n: int, data: st.DataObject) -> None:
    """Its definition, worked out by scipy's test of a chance against counts: at both ends p is 5 %."""
    successes = data.draw(st.integers(0, n))
    interval = proportion(successes, n)
    assert interval.value == successes / n
    for bound, certain in ((interval.low, successes == 0), (interval.high, successes == n)):
        if certain:  # there the end is that of the scale
            assert bound == pytest.approx(interval.value, abs=1e-12)
        else:
            rejects = chisquare([successes, n - successes], [n * bound, n * (1 - bound)])
            assert rejects.pvalue == pytest.approx(0.05)


@few
@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_value_and_narrows_with_n(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    few, many = proportion(successes, n), proportion(successes * 4, n * 4)
    for interval in (few, many):
        assert -1e-12 <= interval.low <= interval.value + 1e-12
        assert interval.value - 1e-12 <= interval.high <= 1 + 1e-12
    assert many.high - many.low < few.high - few.low


def test_wilsons_interval_covers_the_truth_about_95_times_in_100() -> None:
    draws = np.random.default_rng(7).binomial(120, 0.8, size=2000)
    intervals = {int(k): proportion(int(k), 120) for k in np.unique(draws)}
    covered = np.mean([intervals[int(k)].low <= 0.8 <= intervals[int(k)].high for k in draws])
    assert 0.93 < covered < 0.97


def test_mcnemar_is_statsmodels() -> None:
    """statsmodels 0.15.0: mcnemar([[794, 86], [150, 570]], exact=True).pvalue; the table is that of A. Agresti,
    Categorical Data Analysis (1990), p. 350."""
    test = mcnemar(*paired(794, 86, 150, 570))
    assert (test.only_first, test.only_second) == (86, 150)
    assert test.p == pytest.approx(3.7159361395713866e-05, rel=1e-9)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (5, 0), (1, 7), (4, 4), (9, 3)])
def test_mcnemar_is_scipys_exact_permutation_test(first: int, second: int) -> None:
    """Equal arms could have swapped their answers to any review: all 2^n ways of swapping, counted."""
    left, right = paired(1, first, second, 0)

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(a.sum(axis) - b.sum(axis))

    swapped = permutation_test(
        (np.array(left, float), np.array(right, float)), difference, permutation_type="samples", n_resamples=10**6
    )
    assert mcnemar(left, right).p == pytest.approx(swapped.pvalue)


@few
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(first: int, second: int) -> None:
    """In whole numbers: of the 2^n ways that n coins may fall, so many are at least as uneven; at most all of them."""
    tail = sum(math.comb(first + second, heads) for heads in range(min(first, second) + 1))
    expected = min(Fraction(1), Fraction(2 * tail, 2 ** (first + second)))
    assert mcnemar(*paired(10, first, second, 10)).p == pytest.approx(float(expected))


@few
@given(hits)
def test_swapping_the_arms_mirrors_everything(rows: list[tuple[bool, bool]]) -> None:
    left, right = [a for a, _ in rows], [b for _, b in rows]
    there, back = mcnemar(left, right), mcnemar(right, left)
    assert there.p == back.p
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)
    difference = accuracy_difference(left, right, seed=1, resamples=200)
    assert difference.value == -accuracy_difference(right, left, seed=1, resamples=200).value


@few
@given(hits)
def test_the_order_of_reviews_does_not_matter(rows: list[tuple[bool, bool]]) -> None:
    left, right = [a for a, _ in rows], [b for _, b in rows]
    forward = accuracy_difference(left, right, seed=1, resamples=200)
    assert forward == accuracy_difference(left[::-1], right[::-1], seed=1, resamples=200)
    assert forward.low <= forward.high


def test_the_bootstrap_agrees_with_scipys() -> None:
    left, right = paired(150, 60, 25, 65)
    ours = accuracy_difference(left, right, seed=3, resamples=20_000)
    theirs = bootstrap(
        (np.array(left, float), np.array(right, float)),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert ours.value == pytest.approx(35 / 300)


def test_the_difference_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        kinds = rng.choice(4, size=200, p=[0.55, 0.2, 0.1, 0.15])  # both, only first, only second, neither: truth +0.1
        left, right = (kinds <= 1).tolist(), ((kinds == 0) | (kinds == 2)).tolist()
        interval = accuracy_difference(left, right, seed=seed, resamples=1000)
        covered += interval.low <= 0.1 <= interval.high
    assert 0.91 < covered / 300 < 0.98


def test_a_seed_gives_the_same_interval_again() -> None:
    arms = paired(50, 20, 10, 20)
    assert accuracy_difference(*arms, seed=5) == accuracy_difference(*arms, seed=5)
    assert accuracy_difference(*arms, seed=5) != accuracy_difference(*arms, seed=6)


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (Interval(0.1, 0.05, 0.15), 0.001, "better"),
        (Interval(-0.1, -0.15, -0.05), 0.001, "worse"),
        (Interval(0.1, 0.05, 0.15), ALPHA, "undecided"),
        (Interval(0.1, 0.0, 0.2), 0.001, "undecided"),
        (Interval(0.0, 0.0, 0.0), 1.0, "undecided"),
    ],
)
def test_a_verdict_needs_both(difference: Interval, p: float, expected: str) -> None:
    assert verdict(difference, p) == expected


def test_equal_arms_are_called_different_at_most_5_times_in_100() -> None:
    rng, named = np.random.default_rng(2), 0
    for seed in range(300):
        left, right = (rng.random((2, 150)) < 0.7).tolist()
        difference = accuracy_difference(left, right, seed=seed, resamples=500)
        named += verdict(difference, mcnemar(left, right).p) != "undecided"
    assert named / 300 < 0.07


def test_percentiles_interpolate() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([0.25], 95) == 0.25


def test_no_data_raises() -> None:
    for call in (
        lambda: proportion(0, 0),
        lambda: mcnemar([], []),
        lambda: accuracy_difference([], [], seed=1),
        lambda: percentile([], 95),
        lambda: mcnemar([True], [True, False]),
    ):
        with pytest.raises(DataError):
            call()


def test_holm_is_statsmodels() -> None:
    """statsmodels 0.15.0: multipletests(p_values, method="holm")[1]"""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.001, 0.3]) == pytest.approx([0.08, 0.003, 0.3])
    assert holm([]) == []


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferronis(p_values: list[float]) -> None:
    """Marcus, Peritz and Gabriel (1976): a claim is accepted if every set of claims that contains it is rejected."""
    places = range(len(p_values))
    sets = [group for size in places for group in combinations(places, size + 1)]
    for place, adjusted in zip(places, holm(p_values), strict=True):
        groups = [group for group in sets if place in group]
        expected = max(min(1.0, len(group) * min(p_values[member] for member in group)) for group in groups)
        assert adjusted == pytest.approx(expected)


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, raised in zip(p_values, adjusted, strict=True):
        assert p <= raised <= min(1.0, p * len(p_values)) + 1e-12
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))


def test_of_six_equal_arms_none_is_called_different_in_95_of_100_experiments() -> None:
    rng, plain, corrected = np.random.default_rng(5), 0, 0
    for _ in range(300):
        reference, *arms = (rng.random((7, 120)) < 0.6).tolist()
        p_values = [mcnemar(arm, reference).p for arm in arms]
        plain += min(p_values) < ALPHA
        corrected += min(holm(p_values)) < ALPHA
    assert corrected / 300 < 0.07
    assert plain > 2 * corrected, "else this test would pass without a correction"


@pytest.mark.parametrize(("discordant", "n"), [(0.2, 193), (0.5, 193), (0.1, 1000)])
def test_the_detectable_difference_is_found_8_times_in_10(discordant: float, n: int) -> None:
    difference = detectable_difference(discordant, n)
    assert difference is not None
    wins, losses = (discordant + difference) / 2, (discordant - difference) / 2
    draws = np.random.default_rng(3).multinomial(n, [wins, losses, 1 - discordant], size=800)
    power = np.mean([mcnemar(*paired(0, int(a), int(b), int(c))).p < ALPHA for a, b, c in draws])
    assert 0.70 < power < 0.86, "the exact test has a little less power than the normal approximation of the formula"


def test_more_reviews_detect_less_and_too_few_detect_nothing() -> None:
    sizes = [detectable_difference(0.3, n) for n in (50, 200, 5000)]
    assert sizes == sorted(sizes, key=lambda d: -(d or 0))
    assert detectable_difference(0.02, 50) is None
    assert detectable_difference(0.0, 50) is None


@pytest.mark.parametrize(
    ("first", "second", "n", "low", "high"), [(1, 7, 21, -0.517, -0.026), (7, 1, 21, 0.026, 0.517)]
)
def test_tangos_interval_is_the_published_one(first: int, second: int, n: int, low: float, high: float) -> None:
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875: airway hyper-responsiveness."""
    interval = score_interval(first, second, n)
    assert (round(interval.low, 3), round(interval.high, 3)) == (low, high)


@few
@given(st.integers(1, 400), st.data())
def test_tangos_interval_contains_the_difference_and_mirrors(n: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, n))
    second = data.draw(st.integers(0, n - first))
    interval, mirrored = score_interval(first, second, n), score_interval(second, first, n)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-6)


def test_tangos_interval_of_many_reviews_is_the_normal_one() -> None:
    first, second, n = 3000, 2800, 100_000
    deviation = math.sqrt(first + second - (first - second) ** 2 / n) / n
    interval = score_interval(first, second, n)
    assert (interval.low, interval.high) == pytest.approx(
        (0.002 - 1.96 * deviation, 0.002 + 1.96 * deviation), abs=1e-5
    )


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05, 0.2])
def test_the_least_number_of_reviews_is_the_first_that_suffices(margin: float) -> None:
    least = least_reviews(margin)
    assert score_interval(0, 0, least).low >= -margin > score_interval(0, 0, least - 1).low
