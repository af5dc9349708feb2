"""What a fine-tuning job will cost, told before it is created, and refused where evaluation.budget_usd forbids it."""

from pathlib import Path
from typing import Any

from reviewtune.core.config import Prices, ProviderConfig, TrainingConfig
from reviewtune.core.progress import SILENT, Progress
from reviewtune.data.chat_files import ChatFile, count_tokens, read_lines
from reviewtune.errors import ConfigError
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.pricing import COUNT_ERROR, Range, training_cost

USUAL_EPOCHS, FEWEST_EXAMPLES, MOST_EXAMPLES, MOST_EPOCHS = 3, 100, 25_000, 25


def allow_training(
    file: Path,
    provider: ProviderConfig,
    training: TrainingConfig,
    prices: Prices,
    budget_usd: float | None,
    progress: Progress = SILENT,
) -> Range | None:
    """Say what the job may cost in USD and set the most of it aside; None where nothing is paid.

    Raises:
        BudgetError: it could cost more than the budget, or the rest of the sweep's, allows.
        ConfigError: there is a cap, but no price to hold against it.
    """
    if provider.priced_as is None:
        if budget_usd is not None and provider.kind != "local":
            raise ConfigError(f"evaluation.budget_usd is set, but provider {provider.kind} has no provider.priced_as")
        return None
    lines = read_lines(file)
    tokens = sum(count_tokens(line["messages"]) for line in lines) * epochs_of(training, len(lines))
    price = prices.models[provider.priced_as]
    expected = Range(*(training_cost(round(tokens * (1 + sign * COUNT_ERROR)), price) for sign in (-1, 1)))
    with open_store() as store:
        budget = Budget(store, budget_usd, scope())
        progress.message(f"fine-tuning: {tokens:,} tokens may cost {expected.low:.4f} to {expected.high:.4f} USD")
        budget.set_aside(expected.high)
    return expected


def epochs_of(training: TrainingConfig, examples: int) -> int:
    """Epochs that are asked for; `auto` by the rule of OpenAI's cookbook (chat_finetuning_data_prep)."""
    if training.n_epochs != "auto":
        return training.n_epochs
    if examples * USUAL_EPOCHS < FEWEST_EXAMPLES:
        return min(MOST_EPOCHS, FEWEST_EXAMPLES // examples)
    if examples * USUAL_EPOCHS > MOST_EXAMPLES:
        return max(1, MOST_EXAMPLES // examples)
    return USUAL_EPOCHS


def cost_estimate(training: ChatFile, validation: ChatFile, book: Prices) -> dict[str, Any]:
    """Tokens and money of one epoch, for every model of the price book, before anything is paid."""
    return {
        "tokens_per_epoch": training.tokens,
        "validation_tokens": validation.tokens,
        "counted_as": "o200k_base, 3 tokens a message; the provider's own count is what is billed",
        "price_date": book.date,
        "usd_per_epoch": {name: round(training_cost(training.tokens, row), 6) for name, row in book.models.items()},
        "training_examples": training.examples,
        "validation_examples": validation.examples,
        "longest_example_tokens": max(training.longest, validation.longest),
        "warnings": [*training.warnings, *validation.warnings],
    }
