"""What an arm costs: the tokens of its answers and of its training times the price list, in USD."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewtune.evaluation.subject import ModelSubject
from reviewtune.providers.pricing import YARDSTICK, Mode, Usage, per_thousand, training_cost

if TYPE_CHECKING:
    from reviewtune.providers.completion import Answer

DIGITS = 6
MODES: tuple[Mode, ...] = ("online", "batch")


@dataclass(frozen=True, kw_only=True)
class ArmCosts:
    """Tokens and USD under the names of `ArmMetrics`; the defaults are those of a baseline."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_per_1k: float = 0.0
    cost_per_1k_at_gpt_4o_mini: float | None = None
    trained_tokens: int | None = None
    training_usd: float | None = None
    training_usd_at_gpt_4o_mini: float | None = None


def costs_of(answers: "Sequence[Answer]", subject: ModelSubject) -> ArmCosts:
    """Measured usage times the price list, and what the same tokens would have cost at gpt-4o-mini.

    Args:
        answers: all answers of the arm, one per review.
        subject: the model, with its provider and the price list.
    """
    usage = {mode: _usage(answers, mode) for mode in MODES}
    total = sum(usage.values(), Usage())
    prices, kind, priced_as, n = subject.prices, subject.policy.kind, subject.provider.priced_as, len(answers)
    paid = math.fsum(per_thousand(usage[mode], n, prices, priced_as, kind, mode) for mode in MODES)
    # Whether a prefix was cached depends on the run and the provider, so the comparison counts every token in full.
    uncached, known = Usage(total.prompt, 0, total.completion), YARDSTICK in prices.models
    trains = subject.kind == "finetuned"
    return ArmCosts(
        prompt_tokens=total.prompt,
        completion_tokens=total.completion,
        cost_per_1k=round(paid, DIGITS),
        cost_per_1k_at_gpt_4o_mini=per_thousand(uncached, n, prices, YARDSTICK, kind) if known else None,
        trained_tokens=subject.trained_tokens if trains else None,
        training_usd=_training_usd(subject, priced_as) if trains else None,
        training_usd_at_gpt_4o_mini=_training_usd(subject, YARDSTICK) if trains and known else None,
    )


def _training_usd(subject: ModelSubject, model: str | None) -> float:
    if model is None:
        return 0.0
    return round(training_cost(subject.trained_tokens, subject.prices.models[model]), DIGITS)


def _usage(answers: "Sequence[Answer]", mode: Mode) -> Usage:
    return sum((answer.usage for answer in answers if answer.mode == mode), Usage())
