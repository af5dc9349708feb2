"""Request by request: many at once, at the allowed pace, with retries; each answer is kept as soon as it arrives.

When something fails for good, or the budget ends, nothing new is sent, but what is under way may arrive: it is paid.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import openai
from pydantic import ValidationError

from reviewtune.core.progress import Step
from reviewtune.errors import ProviderError
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import Terms
from reviewtune.providers.completion import Answer, Question, Request, read_completion, timed
from reviewtune.providers.rate_limit import Pace
from reviewtune.providers.rejections import refused
from reviewtune.providers.retry_policy import asked_pause, is_passing, pause
from reviewtune.providers.transport import Completions, completions

Keep = Callable[[Question, Answer], None]
FRUITLESS = 4  # retries while nothing answers at the address: a wrong base_url is to be told soon


async def ask_online(
    client: openai.OpenAI,
    request: Request,
    questions: Sequence[Question],
    *,
    terms: Terms,
    budget: Budget,
    keep: Keep,
    step: Step,
) -> int:
    """Ask every question; returns how many requests it took. The first goes alone: it may load the model, would spoil
    the measured times, and tells for the price of one request whether key, model and settings are right.

    Raises:
        openai.APIError, ProviderError: a request that failed for good.
        BudgetError: the next request could cost more than is left.
    """
    async with completions(client, terms.provider) as asking:
        run = _Run(asking, request, terms, budget, keep, step)
        line = iter(questions)
        await run.work(iter([next(line)]))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(terms.provider.concurrency, len(questions) - 1)):
                group.create_task(run.work(line))
    if run.failure:
        raise run.failure
    return run.requests


class _Run:
    """What the workers share."""

    def __init__(
        self, asking: Completions, request: Request, terms: Terms, budget: Budget, keep: Keep, step: Step
    ) -> None:
        self.asking, self.request, self.terms, self.budget = asking, request, terms, budget
        self.keep, self.step = keep, step
        self.pace = Pace(terms.settings.requests_per_minute, terms.settings.tokens_per_minute)
        self.departure = asyncio.Lock()
        self.requests = self.answered = 0
        self.undercount = 1.0  # the provider's count of a prompt's tokens against ours, at worst so far
        self.failure: Exception | None = None

    async def work(self, line: Iterator[Question]) -> None:
        """Take question after question from the line, until it ends or anybody failed."""
        while self.failure is None and (question := next(line, None)) is not None:
            try:
                self.keep(question, await self.insist(question))
            except Exception as error:  # raised at the end, when what is under way has arrived
                self.failure = self.failure or error
            else:
                self.answered += 1
                self.step(1)

    async def insist(self, question: Question) -> Answer:
        """Ask until there is an answer, or no sense in another try."""
        for attempt in range(self.terms.provider.max_retries + 1):
            try:
                return await self.try_once(question, attempt)
            except (openai.APIError, ValidationError) as error:
                if not self.worthwhile(error, attempt):
                    raise self.final(error) from error
                await self.wait(error, attempt)
        raise AssertionError("the last try is never worth another")

    async def try_once(self, question: Question, attempt: int) -> Answer:
        await self.pace.turn(question.tokens + self.request.max_tokens)
        await self.depart()
        highest = self.terms.highest(question, self.request, self.undercount)
        self.budget.set_aside(highest)
        self.requests += 1
        began, started = time.time(), time.perf_counter()
        try:
            content = await self.asking.ask(self.request.body(question.chat))
        except openai.APIStatusError as error:
            self.budget.settle(highest, 0.0)  # refused: nothing was paid. After a time-out nobody knows.
            if (unanswered := refused(error)) is None:
                raise
            return timed(unanswered, began=began, ended=began + time.perf_counter() - started, retries=attempt)
        ended = began + time.perf_counter() - started
        answer = timed(read_completion(content), began=began, ended=ended, retries=attempt)
        self.budget.settle(highest, self.terms.paid(answer))
        if question.tokens:
            self.undercount = max(self.undercount, answer.usage.prompt / question.tokens)
        return answer

    async def depart(self) -> None:
        """One after the other: requests that are put together in one turn of the event loop are sent at its end, all at
        once; their answers come back together, and so on for good, with nothing to do in between."""
        async with self.departure:
            await asyncio.sleep(0)

    def worthwhile(self, error: Exception, attempt: int) -> bool:
        most = self.terms.provider.max_retries
        unreachable = isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)
        if unreachable and not self.answered:
            most = min(most, FRUITLESS)
        return attempt < most and is_passing(error) and self.failure is None

    async def wait(self, error: Exception, attempt: int) -> None:
        seconds = pause(error, attempt)
        if asked_pause(error) is not None:
            self.pace.hold(seconds)
        self.step(note=f"{_short(error)}, again in {seconds:.0f} s")
        await asyncio.sleep(seconds)

    def final(self, error: Exception) -> Exception:
        if isinstance(error, ValidationError):
            who = f"provider {self.terms.provider.kind}"
            return ProviderError(f"{who}: what came is no chat completion ({_short(error)}); is base_url right?")
        return error


def _short(error: Exception) -> str:
    match error:
        case openai.APIStatusError():
            return f"HTTP {error.status_code}"
        case openai.APITimeoutError():
            return "no answer in time"
        case openai.APIConnectionError():
            return "connection lost"
        case ValidationError():
            return f"garbage: {error.errors()[0]['msg']}"
    return type(error).__name__
