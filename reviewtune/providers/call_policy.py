"""How a provider is called: its address, online or in batches, at what rate, at which prices, within which budget."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reviewtune.core.config.arms import EvaluationConfig
from reviewtune.core.config.provider import ModelPrices, Prices, ProviderConfig
from reviewtune.data.prompts import Message
from reviewtune.errors import ConfigError
from reviewtune.providers.address import address_in_environment, address_of
from reviewtune.providers.completion import ANSWER_LIMIT, Answer, Question, Request
from reviewtune.providers.pricing import Kind, Mode, Range, estimate, highest_cost, inference_cost


@dataclass(frozen=True)
class CallPolicy:
    """How one model of a provider is called.

    Args:
        provider: the provider.
        mode: one request per review, or all requests in a batch.
        prices: the model's row of the price book; None if the provider charges nothing.
        kind: whether the prices of the base model or of its fine-tunes apply.
        budget_usd: cap on spending; None is no cap.
        requests_per_minute: rate limit; None is no limit.
        tokens_per_minute: rate limit on prompt and answer tokens; None is no limit.
    """

    provider: ProviderConfig
    mode: Mode
    prices: ModelPrices | None = None
    kind: Kind = "base"
    budget_usd: float | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    @classmethod
    def of(
        cls, provider: ProviderConfig, settings: EvaluationConfig, book: Prices, kind: Kind = "base"
    ) -> "CallPolicy":
        """The policy that the sections `evaluation` and `prices` describe for a model of this provider.

        Raises:
            ConfigError: there is a cap, but no price to compare it with, or no limit of an answer's length.
        """
        if settings.budget_usd is not None and not provider.has_prices:
            raise ConfigError(
                f"evaluation.budget_usd is {settings.budget_usd:g}, but the prices of provider {provider.kind} are not "
                f"known: set provider.priced_as to one of {', '.join(book.models)}, or budget_usd to null"
            )
        if settings.budget_usd is not None and not provider.limits_answers:
            raise ConfigError(
                "evaluation.budget_usd needs a limit of each answer's length, but provider.answer_limit is none: set "
                "it to max_completion_tokens or max_tokens, or budget_usd to null"
            )
        return cls(
            provider=provider,
            mode=provider.mode if settings.mode == "auto" else settings.mode,
            prices=book.models[provider.priced_as] if provider.priced_as else None,
            kind=kind,
            budget_usd=settings.budget_usd,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        )

    def shared_by(self, processes: int) -> "CallPolicy":
        """The policy of each of several processes that call the provider at once: together they keep the limits."""

        def share(rate: float | None) -> float | None:
            return None if rate is None else rate / processes

        concurrency = max(self.provider.concurrency // processes, 1)
        return replace(
            self,
            provider=self.provider.model_copy(update={"concurrency": concurrency}),
            requests_per_minute=share(self.requests_per_minute),
            tokens_per_minute=share(self.tokens_per_minute),
        )

    @property
    def address(self) -> str:
        """Identifies the provider in the keys of answers."""
        return address_of(self.provider)

    @property
    def shared_name(self) -> str | None:
        """The name under which release 0.1.0 kept the answers of all Azure endpoints; None for other providers."""
        return "azure" if self.provider.kind == "azure" and address_in_environment(self.provider) else None

    def body(self, request: Request, chat: Sequence[Message]) -> dict[str, Any]:
        """The JSON body for /chat/completions, without what the provider does not accept."""
        body = request.body(chat)
        for name in self.provider.leave_out:
            del body[name]
        limit = body.pop(ANSWER_LIMIT)
        return body if self.provider.answer_limit == "none" else body | {self.provider.answer_limit: limit}

    def tokens_of(self, chat: Sequence[Message]) -> int:
        """Tokens of a prompt as gpt-4o-mini counts them; 0 if neither prices nor rate limits need the number."""
        if not (self.prices or self.tokens_per_minute):
            return 0
        from reviewtune.data.chat.chat_files import count_tokens  # imports pandas, and OpenAI's vocabulary of tokens

        return count_tokens(list(chat))

    def highest(self, question: Question, request: Request, undercount: float = 1.0) -> float:
        """The most that a request can cost, in USD.

        Args:
            question: the request's prompt.
            request: the request's settings.
            undercount: tokens that the provider counts for one that reviewtune counts.
        """
        if self.prices is None:
            return 0.0
        tokens = math.ceil(question.tokens * undercount)
        return highest_cost(tokens, request.max_tokens, self.prices, self.kind, self.mode)

    def paid(self, answer: Answer) -> float:
        """The cost of an answer in USD."""
        return inference_cost(answer.usage, self.prices, self.kind, answer.mode) if self.prices else 0.0

    def estimated(self, questions: Iterable[Question], request: Request) -> Range:
        """The cost of these requests in USD, at least and at most."""
        if self.prices is None:
            return Range(0.0, 0.0)
        tokens = [question.tokens for question in questions]
        return estimate(tokens, request.max_tokens, self.prices, self.kind, self.mode)
