"""Many reviews to one model: concurrent requests with retries, progress, and what each answer cost and took."""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import openai

from reviewtune.pricing import Usage
from reviewtune.progress import Step, progress_bar
from reviewtune.prompts import Message


@dataclass(frozen=True)
class Request:
    """How a model is asked; the same for every review of an arm."""

    model: str
    response_format: dict[str, Any] | None
    temperature: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """`latency` is seconds from sending to the whole answer, waiting behind other requests included."""

    text: str
    finish_reason: str
    usage: Usage
    latency: float
    retries: int


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
    )
    completion = response.parse()
    latency = time.perf_counter() - started
    choice = completion.choices[0]
    return Answer(
        choice.message.content or "", choice.finish_reason, _usage(completion.usage), latency, response.retries_taken
    )


def _usage(usage: Any) -> Usage:  # noqa: ANN401 - some providers leave it, or its details, out
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    return Usage(usage.prompt_tokens, (details.cached_tokens or 0) if details else 0, usage.completion_tokens)
