"""One request to a model, one answer, and the key under which the answer is cached."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openai.types.chat import ChatCompletionTokenLogprob
from pydantic import TypeAdapter

from reviewtune.data.prompts import Message
from reviewtune.providers.pricing import Mode, Usage

ANSWER_LIMIT = "max_completion_tokens"  # the parameter that limits an answer's length


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
            ANSWER_LIMIT: self.max_tokens,
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
        refused: why the provider or the model refused this review; None if it answered.
        unreadable: why there is no answer this time; None if there is one. It is not kept: the next run asks again.
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
    unreadable: str | None = None

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


@dataclass(frozen=True)
class Fetched:
    """The outcome of asking the provider; the answers themselves are in the cache.

    Args:
        requests: how many requests were sent, retries included.
        unreadable: by the question's key, the place of each answer that cannot be used this time.
    """

    requests: int
    unreadable: Mapping[str, Answer]


def key_of(address: str, body: dict[str, Any], repeat: int) -> str:
    """The SHA-256 of the provider's address, the whole body and the repetition; equal questions have equal keys."""
    identity = {"address": address, "body": body, "repeat": repeat}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


_ADAPTER: TypeAdapter[Answer] = TypeAdapter(Answer)


def to_json(answer: Answer) -> str:
    return _ADAPTER.dump_json(answer, exclude_none=True).decode()


def from_json(text: str) -> Answer:
    return _ADAPTER.validate_json(text)


def unreadable(reason: str) -> Answer:
    """The place of an answer that did not come, or that cannot be read."""
    return Answer(text="", finish_reason="unreadable", usage=Usage(), unreadable=reason)


def timed(answer: Answer, *, began: float, ended: float, mode: Mode = "online", retries: int = 0) -> Answer:
    return replace(answer, began=began, ended=ended, mode=mode, retries=retries)


def busy_seconds(answers: Sequence[Answer]) -> float:
    """Seconds during which at least one of these requests was running; pauses between two runs do not count."""
    busy, until = 0.0, 0.0
    for began, ended in sorted({(answer.began, answer.ended) for answer in answers}):
        busy += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return busy
