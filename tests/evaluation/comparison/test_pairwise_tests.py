"""One arm against another: the verdict overall and label by label."""

import pandas as pd
import pytest

from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.comparison_file import PairwiseTest
from reviewtune.evaluation.comparison.pairwise_tests import Pair, pairwise_tests

LABELS = ("late", "broken")
N = 120


def answers(late: float, broken: float, n: int = N) -> pd.DataFrame:
    """Correct on the first reviews of each label, up to this share; the other label elsewhere."""
    rows = []
    for number in range(n):
        label, share = (LABELS[0], late) if number % 2 else (LABELS[1], broken)
        correct = number // 2 < share * n / 2
        rows.append((f"r{number}", label, label if correct else LABELS[number % 2]))
    return pd.DataFrame(rows, columns=["review_id", "label", "predicted"])


def outcomes(*pairs: tuple[pd.DataFrame, pd.DataFrame]) -> list[PairwiseTest]:
    named = {str(number): Pair(this, other) for number, (this, other) in enumerate(pairs)}
    return list(pairwise_tests(named, LABELS, seed=1, resamples=500).values())


def test_a_clearly_better_arm_is_better_and_the_other_worse() -> None:
    strong, weak = answers(0.9, 0.9), answers(0.5, 0.5)
    (better,), (worse,) = outcomes((strong, weak)), outcomes((weak, strong))
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.difference.value == pytest.approx(0.4)
    assert (better.only_this_right, better.only_other_right) == (48, 0)
    assert {test.verdict for test in better.per_label.values()} == {"better"}


def test_what_one_test_alone_shows_may_not_hold_among_many() -> None:
    """6 against 0: p = 2 / 2^6 = 0.03125, times 3 it is no longer below 0.05."""
    better, base = answers(0.6, 0.5), answers(0.5, 0.5)
    (alone,), (among, *_) = outcomes((better, base)), outcomes(*[(better, base)] * 3)
    assert alone.mcnemar_p == among.mcnemar_p == 2 / 2**6
    assert (alone.verdict, among.verdict) == ("better", "undecided")
    assert among.holm_p == pytest.approx(3 * 2 / 2**6)


def test_a_gain_on_one_label_and_a_loss_on_the_other_are_both_reported() -> None:
    """Three labels, so that a miss of one label is not a false alarm for the other."""
    labels = ("late", "broken", "fine")
    truth = ["late"] * 60 + ["broken"] * 60
    this = pd.DataFrame({"review_id": range(120), "label": truth, "predicted": ["late"] * 60 + ["fine"] * 60})
    other = pd.DataFrame({"review_id": range(120), "label": truth, "predicted": ["fine"] * 60 + ["broken"] * 60})
    (test,) = pairwise_tests({"x": Pair(this, other)}, labels, seed=1, resamples=200).values()
    assert test.verdict == "undecided"
    assert [test.per_label[label].verdict for label in labels] == ["better", "worse", "undecided"]
    assert test.per_label["late"].f1_difference.value == 1.0


def test_the_detectable_difference_shrinks_with_reviews() -> None:
    (few,) = outcomes((answers(0.6, 0.4, 100), answers(0.4, 0.6, 100)))
    (many,) = outcomes((answers(0.6, 0.4, 2000), answers(0.4, 0.6, 2000)))
    assert few.detectable_difference is not None
    assert many.detectable_difference is not None
    assert few.detectable_difference > 4 * many.detectable_difference > 0


def test_other_reviews_are_refused() -> None:
    with pytest.raises(DataError, match="different reviews"):
        outcomes((answers(1, 1, 100), answers(1, 1, 120)))


def test_reviews_of_one_id_are_refused() -> None:
    """Joined, they would count several times."""
    same = answers(0.5, 0.5).assign(review_id="A1")
    with pytest.raises(DataError, match="two reviews have the id 'A1'"):
        outcomes((same, same))


def test_a_label_that_was_removed_counts_as_a_wrong_answer() -> None:
    """An old model may still give it."""
    this, other = answers(0.9, 0.9), answers(0.9, 0.9)
    other.loc[:9, "predicted"] = "a label of before"
    (test,) = outcomes((this, other))
    assert test.difference.value > 0
