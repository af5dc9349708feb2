"""Frequent and emerging issues: published examples, and how often chance alone is reported."""

import numpy as np
import pytest

from reviewtune.analyzer.issues import issue_changes, issue_shares, share_difference
from reviewtune.evaluation.metrics.significance import proportion

LABELS = ("late", "damaged", "wrong", "refund", "fine")


def test_shares_count_the_labelled_reviews() -> None:
    """Wilson's interval of 8 of 10, as in Newcombe, Statistics in Medicine 17 (1998) 857-872: 0.4902 to 0.9433."""
    shares = issue_shares(["late"] * 8 + ["fine"] * 2 + [None] * 5)
    assert [(share.label, share.count, share.n) for share in shares] == [("late", 8, 10), ("fine", 2, 10)]
    assert shares[0].share.value == 0.8
    assert (shares[0].share.low, shares[0].share.high) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert issue_shares([None]) == []


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 873-890, table II (a): 56/70 - 48/80, method 10: 0.0524, 0.3339."""
    difference = share_difference(proportion(48, 80), proportion(56, 70))
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_fishers_tea_tasting() -> None:
    """Fisher, The Design of Experiments (1935): 3 of 4 cups against 1 of 4; two-sided p = 34/70."""
    change = issue_changes(["late"] + ["fine"] * 3, ["late"] * 3 + ["fine"], LABELS)[0]
    assert change.label == "late"
    assert change.p == pytest.approx(34 / 70)
    assert change.p_adjusted == 1.0


def test_a_growing_issue_is_found_and_a_shrinking_one_is_not_emerging() -> None:
    changes = issue_changes(["late"] * 10 + ["fine"] * 190, ["late"] * 40 + ["fine"] * 160, LABELS)
    assert [change.label for change in changes if change.is_emerging] == ["late"]
    late, fine = changes[0], changes[-1]
    assert late.difference.value == pytest.approx(0.15)
    assert late.difference.low > 0
    assert (fine.label, fine.is_emerging) == ("fine", False)
    assert late.p < late.p_adjusted < 1e-3


def test_a_large_growth_of_few_reviews_is_no_evidence() -> None:
    """From 1 to 3 of 10: a rule of 20 % more would report it."""
    changes = issue_changes(["late"] + ["fine"] * 9, ["late"] * 3 + ["fine"] * 7, LABELS)
    assert not any(change.is_emerging for change in changes)


def test_chance_alone_is_reported_in_at_most_five_of_a_hundred_comparisons() -> None:
    rng = np.random.default_rng(0)
    draws = rng.choice(LABELS, size=(400, 2, 150), p=[0.3, 0.25, 0.2, 0.15, 0.1]).tolist()
    alarms = sum(any(change.is_emerging for change in issue_changes(pair[0], pair[1], LABELS)) for pair in draws)
    assert alarms <= 20


def test_reviews_without_a_label_say_nothing() -> None:
    assert issue_changes([None], ["late"], LABELS) == []
    assert issue_changes([], [], LABELS) == []
