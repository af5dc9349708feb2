"""The gates of a promotion on predictions whose outcome is known."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.analyzer.served_model import Calibration
from reviewtune.core.config.promotion import PromotionConfig
from reviewtune.deployment import gates
from reviewtune.deployment.gates_file import Gate
from reviewtune.evaluation.metrics.significance import least_difference
from reviewtune.evaluation.prompt_injections import injection_metrics
from tests.support.arm_files import LABELS, write_arm

SETTINGS = PromotionConfig()


def predictions(correct: list[bool]) -> pd.DataFrame:
    """Every second review is about delivery; a wrong answer is the other label."""
    labels = [LABELS[number % 2] for number in range(len(correct))]
    given = [label if hit else LABELS[1 - LABELS.index(label)] for label, hit in zip(labels, correct, strict=True)]
    ids = [f"r{number}" for number in range(len(correct))]
    return pd.DataFrame({"review_id": ids, "label": labels, "predicted": given})


def of(right: int, wrong: int, rest: int, *, first: bool) -> list[bool]:
    """`right` reviews that only the first arm gets right, `wrong` that only the second does, the rest both do."""
    return [first] * right + [not first] * wrong + [True] * rest


@pytest.mark.parametrize("n", [100, 133, 1000])
def test_the_bound_of_two_arms_that_never_disagree_has_a_closed_form(n: int) -> None:
    """-z^2 / (n + z^2), with z = 1.645 for a one-sided interval."""
    assert least_difference(0, 0, n) == pytest.approx(-(1.6449**2) / (n + 1.6449**2), abs=1e-5)


def test_the_bound_covers_the_truth_in_95_of_100_test_sets() -> None:
    """Two arms of equal accuracy that disagree on 10 % of 200 reviews: the true difference is 0."""
    import numpy as np

    draws = np.random.default_rng(0).multinomial(200, [0.05, 0.05, 0.9], size=2000)
    bounds = [least_difference(int(first), int(second), 200) for first, second, _ in draws]
    assert 0.93 < np.mean(np.array(bounds) < 0) < 0.97


def held_against_champion(right: int, wrong: int, rest: int) -> dict[str, Gate]:
    this, other = (predictions(of(right, wrong, rest, first=side)) for side in (True, False))
    rows = gates.against_champion(this, gates.Opponent("the champion", other), LABELS, SETTINGS, resamples=200)
    return {gate.name: gate for gate in rows}


def test_an_equal_model_passes_if_there_are_enough_reviews() -> None:
    assert held_against_champion(0, 0, 200)["accuracy"].outcome == "passed"
    few = held_against_champion(0, 0, 100)["accuracy"]
    assert few.outcome == "failed"
    assert "so few reviews cannot show it of any model: add test reviews, or raise promotion.margin" in few.seen


def test_a_model_that_may_be_worse_by_more_than_the_margin_fails() -> None:
    """9 against 10 of 400: nearly equal, but a loss of more than 2 points cannot be excluded; 9 against 3 can."""
    close = held_against_champion(9, 10, 381)["accuracy"]
    assert close.outcome == "failed"
    assert close.value is not None
    assert close.value < -0.02
    assert "9 right only now, 10 only before, 400 reviews" in close.seen
    assert held_against_champion(9, 3, 388)["accuracy"].outcome == "passed"


def test_a_label_that_got_worse_fails_whatever_the_accuracy_says() -> None:
    """60 delivery reviews are lost and 60 quality reviews are won: the accuracy is the same."""
    n = 400
    lost = [number % 2 == 1 or number >= 120 for number in range(n)]
    won = [number % 2 == 0 or number >= 120 for number in range(n)]
    labels = (*LABELS, "other")
    this, other = predictions(lost), predictions(won)
    this.loc[this["predicted"] != this["label"], "predicted"] = "other"
    other.loc[other["predicted"] != other["label"], "predicted"] = "other"
    rows = gates.against_champion(this, gates.Opponent("the champion", other), labels, SETTINGS, resamples=200)
    gate = {gate.name: gate for gate in rows}["labels"]
    assert gate.outcome == "failed"
    assert gate.seen.startswith("delivery p < 0.001 (0 right only by the candidate, 60 only by the other)")


def test_a_label_that_only_won_does_not_count_as_the_lowest_loss() -> None:
    gate = held_against_champion(60, 0, 140)["labels"]
    assert (gate.outcome, gate.value, gate.seen) == ("passed", 1.0, "none lost reviews")


def test_a_failed_latency_says_under_what_load_it_was_measured(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "prompted", [True] * 10)
    arm = replace(arm, run=arm.run.model_copy(update={"latency_p95": 12.0}))
    gate = gates.latency_gate(arm, SETTINGS)
    assert gate.outcome == "failed"
    assert "while provider.concurrency requests ran at once, so it includes their waiting" in gate.seen
    assert "raise promotion.max_latency_p95" in gate.seen
    assert "waiting" not in gates.latency_gate(arm, PromotionConfig(max_latency_p95=20.0)).seen


def test_a_first_champion_must_be_better_than_the_reference() -> None:
    def gate(right: int, wrong: int) -> Gate:
        this, other = (predictions(of(right, wrong, 100, first=side)) for side in (True, False))
        return gates.against_reference(this, gates.Opponent("zero_shot", other), LABELS, resamples=2000)

    assert gate(20, 2).outcome == "passed"
    assert gate(6, 4).outcome == "failed"
    assert "undecided" in gate(6, 4).seen
    assert gate(2, 20).outcome == "failed"


def test_limits_pass_at_the_limit_and_null_switches_them_off(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "prompted", [True] * 98 + [False] * 2, cost_per_1k=1.0)
    arm = replace(arm, metrics=arm.metrics.model_copy(update={"invalid": 2}))
    assert gates.unusable_gate(arm, SETTINGS).outcome == "passed"
    assert gates.cost_gate(arm, SETTINGS).outcome == "passed"
    strict = PromotionConfig(max_unusable=0.01, max_cost_per_1k=0.5, max_latency_p95=0.0)
    assert gates.unusable_gate(arm, strict).outcome == "failed"
    assert gates.unusable_gate(arm, strict).seen == "2 of 100, 2.0 %"
    assert gates.cost_gate(arm, strict).outcome == "failed"
    assert gates.latency_gate(arm, strict).outcome == "failed"
    off = PromotionConfig(max_unusable=None, max_cost_per_1k=None, max_latency_p95=None, max_calibration_error=None)
    rows = [gates.unusable_gate(arm, off), gates.cost_gate(arm, off), gates.latency_gate(arm, off)]
    assert [gate.outcome for gate in rows] == ["off"] * 3
    assert all("no limit is set" in gate.seen for gate in rows)


def test_an_unknown_cost_is_not_taken_for_a_low_one(tmp_path: Path) -> None:
    gate = gates.cost_gate(write_arm(tmp_path, "prompted", [True] * 10, cost_per_1k=None), SETTINGS)
    assert gate.outcome == "failed"
    assert "set provider.priced_as, or promotion.max_cost_per_1k to null" in gate.seen


def test_calibration_is_that_of_the_confidence_that_applications_get(tmp_path: Path) -> None:
    """All answers claim 95 % and half of them are right: far off, until the claim is mapped to 50 %."""
    arm = write_arm(tmp_path, "prompted", [number % 2 == 0 for number in range(200)])
    table = arm.predictions.assign(confidence=0.95)
    arm = replace(arm, predictions=table)
    raw = gates.calibration_gate(arm, None, SETTINGS)
    assert raw.outcome == "failed"
    assert raw.value == pytest.approx(0.45)
    honest = Calibration(confidence=(0.0, 1.0), accuracy=(0.5, 0.5))
    assert gates.calibration_gate(arm, honest, SETTINGS).value == pytest.approx(0.0)
    silent = replace(arm, predictions=table.drop(columns="confidence"))
    assert gates.calibration_gate(silent, None, SETTINGS).outcome == "off"


def test_a_model_that_obeys_hostile_reviews_fails() -> None:
    attacks = pd.DataFrame(
        {
            "id": [f"a{number}" for number in range(10)],
            "language": "en",
            "kind": ["order"] * 5 + ["fake label"] * 5,
            "label": "delivery",
            "target": "quality",
            "text": "x",
        }
    )
    obeys = injection_metrics(attacks, ["quality"] * 5 + ["delivery"] * 5, [""] * 10)
    gate = gates.hostile_gate(obeys, "", SETTINGS)
    assert gate.outcome == "failed"
    assert gate.seen == "50.0 % of 10; below the limit: order 0.0 %"
    assert (
        gates.hostile_gate(injection_metrics(attacks, ["delivery"] * 10, [""] * 10), "", SETTINGS).outcome == "passed"
    )


def test_unknown_training_data_and_uncommitted_changes_fail() -> None:
    assert gates.training_gate("abc123", "training file").outcome == "passed"
    assert gates.training_gate("", "training file").outcome == "failed"
    assert gates.git_gate([]).outcome == "passed"
    assert gates.git_gate(["a", "b", "c", "d"]).seen == "not committed: a, b, c and 1 more"
    assert gates.git_gate("git is not installed").outcome == "failed"
    lost = gates.git_gate([], "reviewtune/a.py, stages/b.py")
    assert lost.outcome == "failed"
    assert lost.seen.startswith("its run had changes that were not committed, in reviewtune/a.py, stages/b.py")
