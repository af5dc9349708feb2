"""Money: usage times a dated price book. Prices are USD for a million tokens, costs are USD."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from reviewtune.core.config import ModelPrices, Prices, TokenPrices

Kind = Literal["base", "finetuned"]
Mode = Literal["online", "batch"]

MILLION = 1_000_000
YARDSTICK = "gpt-4o-mini-2024-07-18"  # what the same tokens would have cost there, for a provider that is free
COUNT_ERROR = 0.1  # our count of a prompt's tokens against the provider's own
CACHEABLE_TOKENS = 1024  # OpenAI caches the beginnings of prompts from this length on


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; `cached` is the part of `prompt` that was billed as cached."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


class Range(NamedTuple):
    """USD, at least and at most."""

    low: float
    high: float


def row_of(prices: ModelPrices, kind: Kind, mode: Mode = "online") -> TokenPrices:
    row = prices.base if kind == "base" else prices.finetuned
    return row.batch if mode == "batch" else row


def inference_cost(usage: Usage, prices: ModelPrices, kind: Kind, mode: Mode = "online") -> float:
    row = row_of(prices, kind, mode)
    fresh = usage.prompt - usage.cached
    return (fresh * row.input + usage.cached * row.cached + usage.completion * row.output) / MILLION


def training_cost(trained_tokens: int, prices: ModelPrices) -> float:
    return trained_tokens * prices.finetuned.training / MILLION


def per_thousand(
    usage: Usage, reviews: int, book: Prices, model: str | None, kind: Kind, mode: Mode = "online"
) -> float:
    """Cost of 1,000 reviews at `model`'s prices; 0 when nothing is paid (model None)."""
    if model is None:
        return 0.0
    return round(1000 * inference_cost(usage, book.models[model], kind, mode) / reviews, 6)


def highest_cost(prompt_tokens: int, max_tokens: int, prices: ModelPrices, kind: Kind, mode: Mode = "online") -> float:
    """What one request can cost at most: nothing cached, the longest answer, our token count too low."""
    usage = Usage(math.ceil(round(prompt_tokens * (1 + COUNT_ERROR), 6)), 0, max_tokens)
    return inference_cost(usage, prices, kind, mode)


def estimate(
    prompt_tokens: Sequence[int], max_tokens: int, prices: ModelPrices, kind: Kind, mode: Mode = "online"
) -> Range:
    """What these requests may cost together, before any is sent; one number of prompt tokens each."""
    high = sum(highest_cost(tokens, max_tokens, prices, kind, mode) for tokens in prompt_tokens)
    least = [math.floor(round(tokens * (1 - COUNT_ERROR), 6)) for tokens in prompt_tokens]
    usages = [Usage(tokens, tokens if tokens >= CACHEABLE_TOKENS else 0, 1) for tokens in least]
    return Range(sum(inference_cost(usage, prices, kind, mode) for usage in usages), high)


def amortised(cost_per_1k: float, training: float, reviews: int) -> float:
    """Cost of 1,000 reviews when the training's cost is spread over this many reviews.

    Raises:
        ValueError: no review to spread it over.
    """
    if reviews <= 0:
        raise ValueError(f"the training's cost can't be spread over {reviews} reviews")
    return cost_per_1k + 1000 * training / reviews


def break_even(training: float, cost_per_1k: float, other_per_1k: float) -> int | None:
    """From how many reviews on training plus asking costs no more than asking the other way; None: never.

    The smallest whole n with training + n * cost <= n * other: training / (other - cost), rounded up.
    """
    if training == 0 and cost_per_1k <= other_per_1k:
        return 0
    if cost_per_1k >= other_per_1k:
        return None
    return math.ceil(round(1000 * training / (other_per_1k - cost_per_1k), 6))
