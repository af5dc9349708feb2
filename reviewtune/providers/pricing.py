"""Costs: token usage multiplied by a dated price book. Prices are USD per million tokens, costs are USD."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from reviewtune.core.config.provider import ModelPrices, Prices, TokenPrices

Kind = Literal["base", "finetuned"]
Mode = Literal["online", "batch"]

MILLION = 1_000_000
YARDSTICK = "gpt-4o-mini-2024-07-18"  # reports also give the cost at this model's prices, for providers without charge
COUNT_ERROR = 0.1  # largest relative error of reviewtune's count of a prompt's tokens
CACHEABLE_TOKENS = 1024  # OpenAI caches the beginning of prompts of at least this length


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; `cached` is the part of `prompt` that is billed as cached."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            completion=self.completion + other.completion,
        )


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
    """Cost of 1,000 reviews at the prices of `model`; 0 if `model` is None, as nothing is paid."""
    if model is None:
        return 0.0
    return round(1000 * inference_cost(usage, book.models[model], kind, mode) / reviews, 6)


def highest_cost(prompt_tokens: int, max_tokens: int, prices: ModelPrices, kind: Kind, mode: Mode = "online") -> float:
    """The most that one request can cost: nothing cached, the longest answer, and a token count that is too low."""
    usage = Usage(prompt=math.ceil(round(prompt_tokens * (1 + COUNT_ERROR), 6)), cached=0, completion=max_tokens)
    return inference_cost(usage, prices, kind, mode)


def estimate(
    prompt_tokens: Sequence[int], max_tokens: int, prices: ModelPrices, kind: Kind, mode: Mode = "online"
) -> Range:
    """The total cost of these requests, before any is sent; `prompt_tokens` has one number per request."""
    high = sum(highest_cost(tokens, max_tokens, prices, kind, mode) for tokens in prompt_tokens)
    least = [math.floor(round(tokens * (1 - COUNT_ERROR), 6)) for tokens in prompt_tokens]
    usages = [
        Usage(prompt=tokens, cached=tokens if tokens >= CACHEABLE_TOKENS else 0, completion=1) for tokens in least
    ]
    return Range(low=sum(inference_cost(usage, prices, kind, mode) for usage in usages), high=high)


def amortised(cost_per_1k: float, training: float, reviews: int) -> float:
    """Cost of 1,000 reviews if the cost of the training is divided among so many reviews.

    Raises:
        ValueError: `reviews` is not positive.
    """
    if reviews <= 0:
        raise ValueError(f"the training's cost can't be spread over {reviews} reviews")
    return cost_per_1k + 1000 * training / reviews


def break_even(training: float, cost_per_1k: float, other_per_1k: float) -> int | None:
    """The number of reviews from which on training pays; None if it never does.

    It is the smallest whole n with training + n * cost <= n * other, that is training / (other - cost), rounded up.

    Args:
        training: cost of the training in USD.
        cost_per_1k: cost of 1,000 reviews with the trained model.
        other_per_1k: cost of 1,000 reviews the other way.
    """
    if training == 0 and cost_per_1k <= other_per_1k:
        return 0
    if cost_per_1k >= other_per_1k:
        return None
    return math.ceil(round(1000 * training / (other_per_1k - cost_per_1k), 6))
