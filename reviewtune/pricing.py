"""Money: usage times a dated price book. Prices are USD for a million tokens, costs are USD."""

from dataclasses import dataclass
from typing import Literal

from reviewtune.config import ModelPrices, Prices

MILLION = 1_000_000
YARDSTICK = "gpt-4o-mini-2024-07-18"  # what the same tokens would have cost there, for a provider that is free


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; `cached` is the part of `prompt` that was billed as cached."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


def inference_cost(usage: Usage, prices: ModelPrices, kind: Literal["base", "finetuned"]) -> float:
    row = prices.base if kind == "base" else prices.finetuned
    fresh = usage.prompt - usage.cached
    return (fresh * row.input + usage.cached * row.cached + usage.completion * row.output) / MILLION


def training_cost(trained_tokens: int, prices: ModelPrices) -> float:
    return trained_tokens * prices.training / MILLION


def per_thousand(
    usage: Usage, reviews: int, book: Prices, model: str | None, kind: Literal["base", "finetuned"]
) -> float:
    """Cost of 1,000 reviews at `model`'s prices; 0 when nothing is paid (model None)."""
    if model is None:
        return 0.0
    return round(1000 * inference_cost(usage, book.models[model], kind) / reviews, 6)
