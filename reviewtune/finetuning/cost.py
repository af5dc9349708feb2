"""What a fine-tuning job costs: estimated before it is created, and reserved in evaluation.budget_usd."""

from pathlib import Path
from typing import Any

from reviewtune.core.config.provider import Prices, ProviderConfig
from reviewtune.core.config.training import TrainingConfig
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.chat.chat_files import ChatFile, count_tokens, read_lines
from reviewtune.errors import ConfigError
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.pricing import COUNT_ERROR, Range, training_cost

USUAL_EPOCHS, FEWEST_EXAMPLES, MOST_EXAMPLES, MOST_EPOCHS = 3, 100, 25_000, 25


def reserve_training(
    file: Path,
    provider: ProviderConfig,
    training: TrainingConfig,
    prices: Prices,
    budget_usd: float | None,
    progress: Progress = SILENT,
) -> Range | None:
    """Report what the job may cost and reserve the most of it in the budget.

    Args:
        file: the training file.
        provider: the provider; one without `priced_as` charges nothing for training.
        training: the job's settings.
        prices: the price book.
        budget_usd: the cap; None reserves nothing.
        progress: receives the estimate.

    Returns:
        The estimate in USD; None if the provider charges nothing.

    Raises:
        BudgetError: the job could cost more than is left of the budget, which the jobs of a sweep share.
        ConfigError: there is a cap, but no price to compare it with.
    """
    if provider.priced_as is None:
        _refuse_cap_without_price(provider, budget_usd)
        return None
    tokens = training_tokens(file, training)
    cost = estimate_training(tokens, prices, priced_as=provider.priced_as)
    progress.message(f"fine-tuning: {tokens:,} tokens may cost {cost.low:.4f} to {cost.high:.4f} USD")
    with open_store() as store:
        Budget(store, budget_usd, scope()).set_aside(cost.high)
    return cost


def release_training(cost: Range | None, budget_usd: float | None) -> None:
    """Give back what `reserve_training` reserved, because no job was created."""
    if cost is None or budget_usd is None:
        return
    with open_store() as store:
        Budget(store, budget_usd, scope()).settle(cost.high, 0.0)


def training_tokens(file: Path, training: TrainingConfig) -> int:
    """Tokens that the job trains on in all its epochs, as reviewtune counts them."""
    lines = read_lines(file)
    return sum(count_tokens(line["messages"]) for line in lines) * epochs_of(training, len(lines))


def estimate_training(tokens: int, prices: Prices, *, priced_as: str) -> Range:
    """USD for training on so many tokens, given that the provider may count COUNT_ERROR fewer or more of them."""
    price = prices.models[priced_as]
    return Range(
        low=training_cost(round(tokens * (1 - COUNT_ERROR)), price),
        high=training_cost(round(tokens * (1 + COUNT_ERROR)), price),
    )


def epochs_of(training: TrainingConfig, examples: int) -> int:
    """The number of epochs; `auto` follows the rule of OpenAI's cookbook.

    Source: https://cookbook.openai.com/examples/chat_finetuning_data_prep
    """
    if training.n_epochs != "auto":
        return training.n_epochs
    if examples * USUAL_EPOCHS < FEWEST_EXAMPLES:
        return min(MOST_EPOCHS, FEWEST_EXAMPLES // examples)
    if examples * USUAL_EPOCHS > MOST_EXAMPLES:
        return max(1, MOST_EXAMPLES // examples)
    return USUAL_EPOCHS


def cost_estimate(training: ChatFile, validation: ChatFile, book: Prices) -> dict[str, Any]:
    """The content of reports/cost_estimate.json: tokens and USD of one epoch for every model of the price book."""
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


def _refuse_cap_without_price(provider: ProviderConfig, budget_usd: float | None) -> None:
    if budget_usd is not None and not provider.has_prices:
        raise ConfigError(
            f"evaluation.budget_usd is {budget_usd:g}, but provider {provider.kind} has no provider.priced_as; set it "
            "to a model of the price book, or set budget_usd to null"
        )
