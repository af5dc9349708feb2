"""When a fine-tune pays off: its training's cost spread over the reviews, against the prompt arm that it replaces."""

from collections.abc import Sequence

from reviewtune.evaluation.comparison.comparison_file import BreakEven, CostComparison
from reviewtune.evaluation.metrics.significance import DIGITS
from reviewtune.evaluation.metrics_file import ArmMetrics
from reviewtune.providers.pricing import amortised, break_even

VOLUMES = (1_000, 10_000, 100_000, 1_000_000)  # reviews


def break_even_report(arms: Sequence[ArmMetrics], *, reference: str) -> BreakEven | None:
    """Compare the fine-tuned arm's cost with that of the best prompt arm.

    Args:
        arms: all arms.
        reference: the arm to compare with if none was asked about the validation reviews.

    Returns:
        None without a fine-tuned arm or without a prompt arm.
    """
    finetuned = next((arm for arm in arms if arm.kind == "finetuned"), None)
    best = best_prompt(arms, reference=reference)
    if finetuned is None or best is None:
        return None
    return BreakEven(
        against=best.arm,
        at_provider=_compared(
            training_usd=finetuned.training_usd,
            cost_per_1k=finetuned.cost_per_1k,
            prompt_cost_per_1k=best.cost_per_1k,
        ),
        at_gpt_4o_mini=_compared(
            training_usd=finetuned.training_usd_at_gpt_4o_mini,
            cost_per_1k=finetuned.cost_per_1k_at_gpt_4o_mini,
            prompt_cost_per_1k=best.cost_per_1k_at_gpt_4o_mini,
        ),
    )


def best_prompt(arms: Sequence[ArmMetrics], *, reference: str) -> ArmMetrics | None:
    """The prompt arm with the best accuracy on the validation reviews, of equals the cheaper; None without one.

    The test reviews do not choose it: the best of several on them looks better than it is. Without validation
    accuracies it is the reference, or, if that is not a prompt arm, the first prompt arm.
    """
    prompts = [arm for arm in arms if arm.kind == "prompt"]
    measured = {arm.arm: arm.validation.accuracy.value for arm in prompts if arm.validation}
    if measured:
        known = [arm for arm in prompts if arm.arm in measured]
        return min(known, key=lambda arm: (-measured[arm.arm], arm.cost_per_1k_at_gpt_4o_mini or 0.0))
    return next((arm for arm in prompts if arm.arm == reference), prompts[0] if prompts else None)


def _compared(
    *, training_usd: float | None, cost_per_1k: float | None, prompt_cost_per_1k: float | None
) -> CostComparison | None:
    """At one set of prices; None if one of them is not known."""
    if training_usd is None or cost_per_1k is None or prompt_cost_per_1k is None:
        return None
    return CostComparison(
        training_usd=training_usd,
        cost_per_1k=cost_per_1k,
        cost_per_1k_of_the_prompt=prompt_cost_per_1k,
        amortised_per_1k={volume: round(amortised(cost_per_1k, training_usd, volume), DIGITS) for volume in VOLUMES},
        break_even_reviews=break_even(training_usd, cost_per_1k, prompt_cost_per_1k),
    )
