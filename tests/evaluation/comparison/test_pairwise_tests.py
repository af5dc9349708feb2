"""One arm against another: the verdict overall and label by label."""

import pandas as pd
import pytest

from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.pairwise_tests import Duel, duels

LABELS = ("late", "broken")
N = 120


def answers(late: float, broken: float, n: int = N) -> pd.DataFrame:
    """Right on the first this share of each label's reviews, the other label elsewhere."""
    rows = []
    for number in range(n):
        label, share = (LABELS[0], late) if number % 2 else (LABELS[1], broken)
        right = number // 2 < share * n / 2
        rows.append((f"r{number}", label, label if right else LABELS[number % 2]))
    return pd.DataFrame(rows, columns=["review_id", "label", "predicted"])


def fight(*pairs: tuple[pd.DataFrame, pd.DataFrame]) -> list[Duel]:
    named = {str(number): pair for number, pair in enumerate(pairs)}
    return list(duels(named, LABELS, seed=1, resamples=500).values())


def test_a_clear_winner_is_better_and_its_opponent_worse() -> None:
    strong, weak = answers(0.9, 0.9), answers(0.5, 0.5)
    (won,), (lost,) = fight((strong, weak)), fight((weak, strong))
    assert (won.verdict, lost.verdict) == ("better", "worse")
    assert won.difference.value == pytest.approx(0.4)
    assert (won.only_this_right, won.only_other_right) == (48, 0)
    assert {one.verdict for one in won.per_label.values()} == {"better"}


def test_what_one_duel_alone_shows_may_not_hold_among_many() -> None:
    """6 against 0: p = 2 / 2^6 = 0.03125, times 3 it is no longer below 0.05."""
    better, base = answers(0.6, 0.5), answers(0.5, 0.5)
    (alone,), (among, *_) = fight((better, base)), fight(*[(better, base)] * 3)
    assert alone.p == among.p == 2 / 2**6
    assert (alone.verdict, among.verdict) == ("better", "undecided")
    assert among.holm_p == pytest.approx(3 * 2 / 2**6)


def test_a_gain_on_one_label_and_a_loss_on_the_other_are_both_told() -> None:
    """Three labels, so that a miss of one is no false alarm of the other."""
    labels = ("late", "broken", "fine")
    truth = ["late"] * 60 + ["broken"] * 60
    one = pd.DataFrame({"review_id": range(120), "label": truth, "predicted": ["late"] * 60 + ["fine"] * 60})
    two = pd.DataFrame({"review_id": range(120), "label": truth, "predicted": ["fine"] * 60 + ["broken"] * 60})
    (duel,) = duels({"x": (one, two)}, labels, seed=1, resamples=200).values()
    assert duel.verdict == "undecided"
    assert [duel.per_label[label].verdict for label in labels] == ["better", "worse", "undecided"]
    assert duel.per_label["late"].f1.value == 1.0


def test_the_detectable_difference_shrinks_with_reviews() -> None:
    (few,) = fight((answers(0.6, 0.4, 100), answers(0.4, 0.6, 100)))
    (many,) = fight((answers(0.6, 0.4, 2000), answers(0.4, 0.6, 2000)))
    assert few.detectable is not None
    assert many.detectable is not None
    assert few.detectable > 4 * many.detectable > 0


def test_other_reviews_are_refused() -> None:
    with pytest.raises(DataError, match="different reviews"):
        fight((answers(1, 1, 100), answers(1, 1, 120)))
