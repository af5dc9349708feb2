"""On which terms a provider is asked: at which address, online or in a batch, at what pace and at which prices."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reviewtune.core.config import EvaluationConfig, ModelPrices, Prices, ProviderConfig
from reviewtune.data.chat_files import count_tokens
from reviewtune.data.prompts import Message
from reviewtune.errors import ConfigError
from reviewtune.providers.completion import Answer, Question, Request
from reviewtune.providers.pricing import Kind, Mode, Range, estimate, highest_cost, inference_cost


@dataclass(frozen=True)
class Terms:
    """`prices` None: nothing is paid."""

    provider: ProviderConfig
    settings: EvaluationConfig
    prices: ModelPrices | None
    kind: Kind = "base"

    @classmethod
    def of(cls, provider: ProviderConfig, settings: EvaluationConfig, book: Prices, kind: Kind = "base") -> "Terms":
        """The terms for a model of this provider.

        Raises:
            ConfigError: there is a cap, but no price to hold against it.
        """
        if provider.priced_as is None and settings.budget_usd is not None and provider.kind != "local":
            raise ConfigError(
                f"evaluation.budget_usd is {settings.budget_usd:g}, but what provider {provider.kind} costs is not "
                f"known: set provider.priced_as to one of {', '.join(book.models)}, or budget_usd to null"
            )
        return cls(provider, settings, book.models[provider.priced_as] if provider.priced_as else None, kind)

    @property
    def address(self) -> str:
        """Names the provider in the keys of answers; the local one's port is another each time."""
        return self.provider.base_url or self.provider.kind

    @property
    def mode(self) -> Mode:
        return self.provider.mode if self.settings.mode == "auto" else self.settings.mode

    def tokens_of(self, chat: list[Message]) -> int:
        """Tokens of a prompt as gpt-4o-mini counts them; 0 where nobody needs the number."""
        return count_tokens(chat) if self.prices or self.settings.tokens_per_minute else 0

    def highest(self, question: Question, request: Request, undercount: float = 1.0) -> float:
        """USD that one request may cost at most; `undercount`: how many tokens the provider counts for one of ours."""
        if self.prices is None:
            return 0.0
        tokens = math.ceil(question.tokens * undercount)
        return highest_cost(tokens, request.max_tokens, self.prices, self.kind, self.mode)

    def paid(self, answer: Answer) -> float:
        """USD that an answer did cost."""
        return inference_cost(answer.usage, self.prices, self.kind, answer.mode) if self.prices else 0.0

    def estimated(self, questions: Iterable[Question], request: Request) -> Range:
        """USD that these requests may cost."""
        if self.prices is None:
            return Range(0.0, 0.0)
        tokens = [question.tokens for question in questions]
        return estimate(tokens, request.max_tokens, self.prices, self.kind, self.mode)
