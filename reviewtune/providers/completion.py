"""What a provider is asked and what it answers: one request, one answer, and the key under which the answer is kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from openai.types.chat import ChatCompletionTokenLogprob
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from reviewtune.data.prompts import Message
from reviewtune.providers.pricing import Mode, Usage


@dataclass(frozen=True)
class Request:
    """How a model is asked; the same for every review of an arm.

    `top_logprobs` (0 to 20 alternatives a token) needs `logprobs`. `repeat` counts the times that one review is asked
    the same: a repeat is a request of its own to the cache, and nothing of it is sent; vary `seed` to vary the answer.
    """

    model: str
    response_format: dict[str, Any] | None
    temperature: float
    max_tokens: int
    seed: int
    logprobs: bool = False
    top_logprobs: int | None = None
    repeat: int = 0

    def body(self, chat: Sequence[Message]) -> dict[str, Any]:
        """What is sent to /chat/completions, online or as a line of a batch."""
        optional = {
            "response_format": self.response_format,
            "logprobs": True if self.logprobs else None,
            "top_logprobs": self.top_logprobs,
        }
        return {
            "model": self.model,
            "messages": list(chat),
            "temperature": self.temperature,
            "max_completion_tokens": self.max_tokens,
            "seed": self.seed,
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class Answer:
    """`began` and `ended` are Unix seconds: of the request, or of the batch that it was part of.

    `logprobs` holds a token of the answer each; None where they were not asked for, or the provider has none.
    `refused` is why the provider did not take this review: then there is no text, and nothing was paid.
    """

    text: str
    finish_reason: str
    usage: Usage
    retries: int = 0
    logprobs: tuple[ChatCompletionTokenLogprob, ...] | None = None
    mode: Mode = "online"
    began: float = 0.0
    ended: float = 0.0
    refused: str | None = None

    @property
    def latency(self) -> float | None:
        """Seconds from sending to the whole answer; a line of a batch has none of its own."""
        return self.ended - self.began if self.mode == "online" else None


@dataclass(frozen=True, slots=True)
class Question:
    """One review put to a model, and the key under which its answer is kept; `tokens` of the prompt, 0: not counted."""

    key: str
    chat: Sequence[Message]
    tokens: int = 0


def key_of(address: str, request: Request, chat: Sequence[Message]) -> str:
    """The SHA-256 of the provider's address, the whole body and the repeat: equal questions, equal keys."""
    named = {"address": address, "body": request.body(chat), "repeat": request.repeat}
    canonical = json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class _Lenient(BaseModel):
    """What we read of a completion must be right; the rest may be anything, as compatible servers differ there."""

    model_config = ConfigDict(extra="ignore")


class _Details(_Lenient):
    cached_tokens: int | None = None


class _Usage(_Lenient):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Message(_Lenient):
    content: str | None


class _Logprobs(_Lenient):
    content: tuple[ChatCompletionTokenLogprob, ...] | None = None


class _Choice(_Lenient):
    message: _Message
    finish_reason: str = "unknown"
    logprobs: _Logprobs | None = None


class _Completion(_Lenient):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_completion(content: bytes | dict[str, Any]) -> Answer:
    """The answer in a chat completion, given as JSON text or as its object; without times.

    Raises:
        pydantic.ValidationError: that is no chat completion.
    """
    if isinstance(content, bytes):
        completion = _Completion.model_validate_json(content)
    else:
        completion = _Completion.model_validate(content)
    choice = completion.choices[0]
    logprobs = choice.logprobs.content if choice.logprobs else None
    return Answer(choice.message.content or "", choice.finish_reason, _measured(completion.usage), logprobs=logprobs)


def _measured(usage: _Usage | None) -> Usage:
    """Some providers leave the usage, or its details, out."""
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(usage.prompt_tokens, cached or 0, usage.completion_tokens)


_ADAPTER: TypeAdapter[Answer] = TypeAdapter(Answer)


def to_json(answer: Answer) -> str:
    return _ADAPTER.dump_json(answer, exclude_none=True).decode()


def from_json(text: str) -> Answer:
    return _ADAPTER.validate_json(text)


def timed(answer: Answer, *, began: float, ended: float, mode: Mode = "online", retries: int = 0) -> Answer:
    return replace(answer, began=began, ended=ended, mode=mode, retries=retries)


def busy_seconds(answers: Sequence[Answer]) -> float:
    """Seconds during which at least one of these answers was under way: pauses between two sittings do not count."""
    busy, until = 0.0, 0.0
    for began, ended in sorted({(answer.began, answer.ended) for answer in answers}):
        busy += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return busy
