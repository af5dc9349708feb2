"""One request to a model, one answer, and the key under which the answer is cached."""

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
    """The settings of a chat completion; the same for every review of an arm.

    Args:
        model: name of the model at the provider.
        response_format: the JSON schema of the answer, if any.
        temperature: of the sampling; 0 picks the most likely token.
        max_tokens: the longest answer.
        seed: of the sampling.
        logprobs: whether the answer has log-probabilities.
        top_logprobs: alternatives per token, 0 to 20; needs `logprobs`.
        repeat: number of the repetition if a review is asked several times. Each repetition has its own cached answer;
            the number is not sent, so vary `seed` to vary the answer.
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
        """The JSON body for /chat/completions, online or in a line of a batch."""
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
    """One answer of a model.

    Args:
        text: the answer; empty if the provider refused the review.
        finish_reason: as the provider reports it; "refused" if the provider refused the review.
        usage: tokens as the provider counted them.
        retries: how many requests failed before this one.
        logprobs: one item per token; None if they were not requested or the provider has none.
        mode: one request, or a line of a batch.
        began: Unix seconds, of the request or of its batch.
        ended: Unix seconds, of the request or of its batch.
        refused: why the provider refused this review, which costs nothing; None if it answered.
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
        """Seconds from the request to the whole answer; None for a line of a batch."""
        return self.ended - self.began if self.mode == "online" else None


@dataclass(frozen=True, slots=True)
class Question:
    """One review to ask a model about.

    Args:
        key: under which the answer is cached.
        body: of the request, as `Request.body` returns it.
        tokens: of the prompt; 0 if they were not counted.
    """

    key: str
    body: dict[str, Any]
    tokens: int = 0


def key_of(address: str, body: dict[str, Any], repeat: int) -> str:
    """The SHA-256 of the provider's address, the whole body and the repetition; equal questions have equal keys."""
    identity = {"address": address, "body": body, "repeat": repeat}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class _Lenient(BaseModel):
    """The fields that are read must be valid; others are ignored, because compatible servers differ in them."""

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
    """The answer in a chat completion, without times.

    Args:
        content: the completion as JSON text or as its object.

    Raises:
        pydantic.ValidationError: the content is not a chat completion.
    """
    if isinstance(content, bytes):
        completion = _Completion.model_validate_json(content)
    else:
        completion = _Completion.model_validate(content)
    choice = completion.choices[0]
    logprobs = choice.logprobs.content if choice.logprobs else None
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        usage=_usage_of(completion.usage),
        logprobs=logprobs,
    )


def _usage_of(usage: _Usage | None) -> Usage:
    """The counted tokens; some providers leave out the usage or its details."""
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(prompt=usage.prompt_tokens, cached=cached or 0, completion=usage.completion_tokens)


_ADAPTER: TypeAdapter[Answer] = TypeAdapter(Answer)


def to_json(answer: Answer) -> str:
    return _ADAPTER.dump_json(answer, exclude_none=True).decode()


def from_json(text: str) -> Answer:
    return _ADAPTER.validate_json(text)


def timed(answer: Answer, *, began: float, ended: float, mode: Mode = "online", retries: int = 0) -> Answer:
    return replace(answer, began=began, ended=ended, mode=mode, retries=retries)


def busy_seconds(answers: Sequence[Answer]) -> float:
    """Seconds during which at least one of these requests was running; pauses between two runs do not count."""
    busy, until = 0.0, 0.0
    for began, ended in sorted({(answer.began, answer.ended) for answer in answers}):
        busy += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return busy
