"""When a fine-tune pays: its training's cost spread over the reviews, against the prompt arm that it replaces."""

from collections.abc import Mapping, Sequence
from typing import Any

from reviewtune.providers.pricing import amortised, break_even

VOLUMES = (1_000, 10_000, 100_000, 1_000_000)  # reviews
BOOKS = {"at_provider": "", "at_gpt_4o_mini": "_at_gpt_4o_mini"}  # what is paid, and what OpenAI would have charged


def economics(arms: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """`arms` are metrics.json of each. None without a fine-tuned arm or a prompt arm to hold it against.

    The prompt arm is the one with the best accuracy; of equals the cheaper. Costs are USD, `break_even_reviews` is
    from how many reviews on training and asking cost no more than prompting: 0 at once, None never.
    """
    tuned = next((arm for arm in arms if arm["kind"] == "finetuned"), None)
    prompted = [arm for arm in arms if arm["kind"] == "prompt"]
    if tuned is None or not prompted:
        return None
    best = min(prompted, key=lambda arm: (-arm["accuracy"]["value"], arm.get("cost_per_1k_at_gpt_4o_mini") or 0.0))
    return {"against": best["arm"], **{name: _at(tuned, best, end) for name, end in BOOKS.items()}}


def _at(tuned: Mapping[str, Any], other: Mapping[str, Any], end: str) -> dict[str, Any] | None:
    """At one set of prices; None where one of them is not known."""
    training, own, others = (
        tuned.get(f"training_usd{end}"),
        tuned.get(f"cost_per_1k{end}"),
        other.get(f"cost_per_1k{end}"),
    )
    if training is None or own is None or others is None:
        return None
    return {
        "training_usd": training,
        "cost_per_1k": own,
        "cost_per_1k_of_the_prompt": others,
        "amortised_per_1k": {str(volume): round(amortised(own, training, volume), 6) for volume in VOLUMES},
        "break_even_reviews": break_even(training, own, others),
    }
