"""The calibration of confidences: known answers, and what must hold for any answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.analyzer.calibration import MINIMUM, fit_calibration
from reviewtune.errors import DataError

answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=MINIMUM, max_size=80)


def test_pooled_shares_of_a_worked_example() -> None:
    """Sorted by confidence: 20 of 40 right at 0.5, 36 of 40 at 0.8, 30 of 40 at 0.9: the last two pool to 66 of 80."""
    confidence = [0.5] * 40 + [0.8] * 40 + [0.9] * 40
    right = [True] * 20 + [False] * 20 + [True] * 36 + [False] * 4 + [True] * 30 + [False] * 10
    calibration = fit_calibration(confidence, right)
    assert calibration is not None
    assert calibration.of(0.5) == pytest.approx(0.5)
    assert calibration.of(0.8) == calibration.of(0.9) == pytest.approx(66 / 80, abs=1e-6)
    assert calibration.of(0.65) == pytest.approx((0.5 + 66 / 80) / 2, abs=1e-6)  # between two points
    assert (calibration.of(0.0), calibration.of(1.0)) == (calibration.of(0.5), calibration.of(0.9))


def test_no_number_of_right_answers_is_certainty() -> None:
    """Laplace: after n right answers of n, the next is right with probability (n + 1) / (n + 2)."""
    always, never = fit_calibration([0.9] * 98, [True] * 98), fit_calibration([0.9] * 98, [False] * 98)
    assert always is not None
    assert never is not None
    assert (always.of(0.9), never.of(0.9)) == (0.99, 0.01)


def test_too_few_reviews_say_nothing() -> None:
    assert fit_calibration([0.9] * (MINIMUM - 1), [True] * (MINIMUM - 1)) is None
    assert fit_calibration([], []) is None


@pytest.mark.parametrize(("confidence", "right"), [([0.5], [True, False]), ([1.2] * 40, [True] * 40)])
def test_what_is_no_confidence_is_refused(confidence: list[float], right: list[bool]) -> None:
    with pytest.raises(DataError):
        fit_calibration(confidence, right)


@given(answers, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_confidence_is_never_less_right(pairs: list[tuple[float, bool]], one: float, other: float) -> None:
    calibration = fit_calibration([c for c, _ in pairs], [right for _, right in pairs])
    assert calibration is not None
    low, high = calibration.of(min(one, other)), calibration.of(max(one, other))
    assert 0 < low <= high < 1


@given(answers, st.randoms())
def test_the_order_of_the_reviews_does_not_matter(pairs: list[tuple[float, bool]], random: st.DataObject) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    fits = [fit_calibration([c for c, _ in order], [right for _, right in order]) for order in (pairs, shuffled)]
    assert fits[0] == fits[1]


def test_it_finds_the_true_accuracies_of_an_overconfident_model() -> None:
    """Simulated: a model that is right with the square of its confidence."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1, 20_000)
    calibration = fit_calibration(confidence.tolist(), (rng.random(20_000) < confidence**2).tolist())
    assert calibration is not None
    for value in (0.4, 0.6, 0.8, 0.95):
        assert calibration.of(value) == pytest.approx(value**2, abs=0.05)
