"""The recommended arm: the cheapest that is not worse than the most accurate one, chosen on the validation reviews."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from reviewtune.core.result_file import write_result
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.compare import Arm, compare
from reviewtune.evaluation.comparison.comparison_file import (
    COMPARISON_FILE,
    Comparison,
    Recommendation,
    read_comparison,
)
from reviewtune.evaluation.comparison.markdown_report import to_markdown
from reviewtune.evaluation.comparison.recommendation import recommendation_lines
from reviewtune.evaluation.metrics_file import ArmKind
from tests.evaluation.comparison.conftest import CASCADE
from tests.support.arm_files import write_arm

N = 400  # validation reviews; fewer than 189 cannot show that two arms are within 2 points
TEST = [number % 10 < 7 for number in range(100)]


def right(share: float, n: int = N) -> list[bool]:
    """The first reviews are classified correctly, so that a worse arm is never right alone."""
    return [number < share * n for number in range(n)]


def arm(root: Path, name: str, validation: list[bool], kind: ArmKind = "prompt", cost: float | None = 0.02) -> Arm:
    return write_arm(root, name, TEST, kind, validation=validation, cost_per_1k=cost)


def compared(arms: Sequence[Arm], margin: float = 0.02) -> Comparison:
    return compare(arms, reference=arms[0].name, seed=1, resamples=100, cascade=CASCADE, margin=margin)


def recommended(arms: Sequence[Arm], margin: float = 0.02) -> Recommendation:
    chosen = compared(arms, margin).recommendation
    assert chosen is not None
    return chosen


def usual(root: Path, linear: float) -> list[Arm]:
    """zero_shot 60 %, finetuned 90 %, few_shot 89.5 % and dearer, linear as given and free."""
    return [
        arm(root, "zero_shot", right(0.6)),
        arm(root, "finetuned", right(0.9), "finetuned", 0.03),
        arm(root, "few_shot", right(0.895), cost=0.3),
        arm(root, "linear", right(linear), "linear", None),
    ]


def test_a_linear_baseline_that_is_not_worse_is_recommended(tmp_path: Path) -> None:
    chosen = recommended(usual(tmp_path, linear=0.895))
    assert (chosen.arm, chosen.best, chosen.n) == ("linear", "finetuned", N)
    assert [one.arm for one in chosen.candidates] == ["linear", "zero_shot", "finetuned", "few_shot"]
    assert [one.not_worse for one in chosen.candidates] == [True, False, True, True]
    assert chosen.candidates[0].difference.value == -0.005


def test_a_cheaper_arm_that_may_be_worse_is_not_recommended(tmp_path: Path) -> None:
    """Its loss is 1 point, within the margin, but the interval reaches further."""
    arms = usual(tmp_path, linear=0.89)
    chosen = recommended(arms)
    assert (chosen.arm, chosen.best) == ("finetuned", "finetuned")
    assert chosen.candidates[0].difference.low < -0.02 < chosen.candidates[0].difference.value
    assert recommended(arms, margin=0.05).arm == "linear"


def test_the_test_reviews_choose_nothing(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "finetuned", [True] * 100, "finetuned", validation=right(0.5), cost_per_1k=0.01),
        write_arm(tmp_path, "zero_shot", [False] * 100, validation=right(0.9)),
    ]
    assert recommended(arms).arm == "zero_shot"


@pytest.mark.parametrize(("n", "proven"), [(60, False), (188, False), (189, True)])
def test_few_reviews_that_agree_prove_nothing(tmp_path: Path, n: int, proven: bool) -> None:
    """Tango's interval for two arms that never disagree ends at z^2 / (n + z^2), which is 2 points for n = 188.2."""
    arms = [arm(tmp_path, "zero_shot", right(0.9, n)), arm(tmp_path, "few_shot", right(0.9, n), cost=0.3)]
    assert [one.not_worse for one in recommended(arms).candidates] == [True, proven]


def test_the_majority_label_and_checkpoints_take_no_part(tmp_path: Path) -> None:
    arms = [
        arm(tmp_path, "majority", right(0.95), "majority", None),
        arm(tmp_path, "checkpoint_1", right(0.99), "checkpoint", 0.01),
        arm(tmp_path, "zero_shot", right(0.6)),
        arm(tmp_path, "finetuned", right(0.9), "finetuned"),
    ]
    assert [one.arm for one in recommended(arms).candidates] == ["finetuned", "zero_shot"]


def test_without_validation_answers_there_is_none(tmp_path: Path) -> None:
    arms = [arm(tmp_path, "zero_shot", []), arm(tmp_path, "finetuned", right(0.9), "finetuned")]
    comparison = compared(arms)
    assert comparison.recommendation is not None
    assert comparison.recommendation.arm is None
    (line,) = recommendation_lines(comparison)
    assert line.startswith("no recommendation: it is chosen on the validation reviews, and these arms were not asked")
    assert "zero_shot" in line


def test_one_arm_alone_is_not_recommended(tmp_path: Path) -> None:
    (line,) = recommendation_lines(compared([arm(tmp_path, "zero_shot", right(0.9))]))
    assert line.endswith("there is only one arm to choose from")


def test_an_unknown_price_comes_last(tmp_path: Path) -> None:
    arms = [arm(tmp_path, "zero_shot", right(0.9), cost=None), arm(tmp_path, "few_shot", right(0.9), cost=5.0)]
    assert recommended(arms).arm == "few_shot"


def test_a_free_provider_is_compared_at_other_prices(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, name, TEST, validation=right(0.9), cost_per_1k=0.0, cost_per_1k_at_gpt_4o_mini=usd)
        for name, usd in (("few_shot", 0.2), ("zero_shot", 0.05))
    ]
    assert recommended(arms).arm == "zero_shot"
    assert "zero_shot 70.0 % [60.4, 78.1], $0.0500 per 1,000 reviews at gpt-4o-mini's prices" in " ".join(
        recommendation_lines(compared(arms))
    )


def test_arms_of_different_validation_reviews_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different reviews"):
        compared([arm(tmp_path, "zero_shot", right(0.9)), arm(tmp_path, "finetuned", right(0.9, 300), "finetuned")])


def test_the_sentences_name_the_reason_and_both_splits(tmp_path: Path) -> None:
    cheap, best = (compared(usual(tmp_path / str(share), share)) for share in (0.895, 0.7))
    why, on_test = recommendation_lines(cheap)
    assert why.startswith("recommended: linear, the cheapest arm that is not worse than finetuned, the most accurate")
    assert "on the 400 validation reviews: 89.5 % [86.1, 92.1] against 90.0 % [86.7, 92.6], −0.5 points" in why
    assert "linear 70.0 % [60.4, 78.1], $0.00 per 1,000 reviews" in on_test
    why, _ = recommendation_lines(best)
    assert "no cheaper arm is shown to be at most 2 points worse there: linear −20.0 points" in why
    assert "## Recommendation\n\n- **recommended: finetuned**, " in to_markdown(best)


def test_it_is_in_the_file(tmp_path: Path) -> None:
    comparison = compared(usual(tmp_path, 0.895))
    write_result(comparison, tmp_path / COMPARISON_FILE)
    assert read_comparison(tmp_path).recommendation == comparison.recommendation
