"""Many reviews to one model: concurrent requests with retries, progress, and what each answer cost and took."""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletionTokenLogprob

from reviewtune.pricing import Usage
from reviewtune.progress import Step, progress_bar
from reviewtune.prompts import Message


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


@dataclass(frozen=True)
class Answer:
    """`latency` is seconds from sending to the whole answer, waiting behind other requests included.

    `logprobs` holds a token of the answer each; None where they were not asked for, or the provider has none.
    """

    text: str
    finish_reason: str
    usage: Usage
    latency: float
    retries: int
    logprobs: tuple[ChatCompletionTokenLogprob, ...] | None = None


@dataclass(frozen=True)
class Answers:
    """In the order of the reviews. `seconds` is the wall time of all but the first."""

    answers: list[Answer]
    seconds: float


def ask(
    client: openai.OpenAI, request: Request, chats: Sequence[list[Message]], *, concurrency: int, title: str
) -> Answers:
    """Ask every chat; the first one alone, since it may load the model and would spoil the measured times.

    Raises:
        openai.APIError: a request that failed for good; the others are not sent any more, nothing is skipped.
    """
    with progress_bar(title, total=len(chats)) as step:
        first = _ask_one(client, request, chats[0])
        step(1)
        started = time.perf_counter()
        rest = _ask_rest(client, request, chats[1:], concurrency, step)
        return Answers([first, *rest], time.perf_counter() - started)


def _ask_rest(
    client: openai.OpenAI, request: Request, chats: Sequence[list[Message]], concurrency: int, step: Step
) -> list[Answer]:
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        futures = [pool.submit(_ask_one, client, request, chat) for chat in chats]
        for future in futures:
            future.add_done_callback(lambda _: step(1))
        done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        for future in pending:
            future.cancel()
        for future in done:
            future.result()
    return [future.result() for future in futures]


def _ask_one(client: openai.OpenAI, request: Request, chat: list[Message]) -> Answer:
    started = time.perf_counter()
    response = client.chat.completions.with_raw_response.create(
        model=request.model,
        messages=chat,  # type: ignore[arg-type]  # our Message is the same shape for every role that we use
        temperature=request.temperature,
        max_completion_tokens=request.max_tokens,
        seed=request.seed,
        response_format=request.response_format or openai.omit,  # type: ignore[arg-type]
        logprobs=True if request.logprobs else openai.omit,
        top_logprobs=openai.omit if request.top_logprobs is None else request.top_logprobs,
    )
    completion = response.parse()
    latency = time.perf_counter() - started
    choice = completion.choices[0]
    return Answer(
        choice.message.content or "",
        choice.finish_reason,
        _usage(completion.usage),
        latency,
        response.retries_taken,
        tuple(choice.logprobs.content) if choice.logprobs and choice.logprobs.content else None,
    )


def _usage(usage: Any) -> Usage:  # noqa: ANN401 - some providers leave it, or its details, out
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    return Usage(usage.prompt_tokens, (details.cached_tokens or 0) if details else 0, usage.completion_tokens)
