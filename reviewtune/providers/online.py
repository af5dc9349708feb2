"""Send single requests: many at once, within the rate limits, with retries; each answer is kept when it arrives.

When a request fails for good, or the budget ends, no new request is sent, but running ones may finish, as they are paid
for.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import openai
from pydantic import ValidationError

from reviewtune.core.progress import Step
from reviewtune.errors import ProviderError
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.completion import Answer, Question, Request, read_completion, timed
from reviewtune.providers.rate_limit import Pace
from reviewtune.providers.rejections import refused
from reviewtune.providers.retry_policy import asked_pause, is_passing, pause
from reviewtune.providers.transport import Completions, completions

Keep = Callable[[Question, Answer], None]
UNREACHABLE_RETRIES = 4  # while nothing has answered yet, so that a wrong base_url is reported soon


async def ask_online(
    client: openai.OpenAI,
    request: Request,
    questions: Sequence[Question],
    *,
    policy: CallPolicy,
    budget: Budget,
    keep: Keep,
    step: Step,
) -> int:
    """Ask every question.

    The first request is sent alone: it may load the model, which would distort the measured times, and it shows for the
    price of one request whether key, model and settings are right.

    Args:
        client: a client of the provider.
        request: the model and its settings.
        questions: what to ask.
        policy: how the provider is called.
        budget: what is left to spend.
        keep: called with each answer when it arrives.
        step: called for each answer, and with a note for each retry.

    Returns:
        The number of requests that were sent, retries included.

    Raises:
        openai.APIError: a request failed for good.
        ProviderError: the answer is not a chat completion.
        BudgetError: the next request could cost more than is left.
    """
    async with completions(client, policy.provider) as asking:
        run = _Run(asking, request=request, policy=policy, budget=budget, keep=keep, step=step)
        queue = iter(questions)
        await run.work(iter([next(queue)]))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(policy.provider.concurrency, len(questions) - 1)):
                group.create_task(run.work(queue))
    if run.failure:
        raise run.failure
    return run.requests


class _Run:
    """The state that the workers share."""

    def __init__(
        self, asking: Completions, *, request: Request, policy: CallPolicy, budget: Budget, keep: Keep, step: Step
    ) -> None:
        self.asking, self.request, self.policy, self.budget = asking, request, policy, budget
        self.keep, self.step = keep, step
        self.pace = Pace(policy.requests_per_minute, policy.tokens_per_minute)
        self.start_lock = asyncio.Lock()
        self.requests = self.answered = 0
        self.undercount = 1.0  # the largest ratio so far of the provider's count of prompt tokens to reviewtune's
        self.failure: Exception | None = None

    async def work(self, queue: Iterator[Question]) -> None:
        """Take questions from the queue until it is empty or a worker failed."""
        while self.failure is None and (question := next(queue, None)) is not None:
            try:
                self.keep(question, await self.ask(question))
            except Exception as error:  # raised at the end, after the running requests have finished
                self.failure = self.failure or error
            else:
                self.answered += 1
                self.step(1)

    async def ask(self, question: Question) -> Answer:
        """Ask until there is an answer or another attempt cannot help."""
        for attempt in range(self.policy.provider.max_retries + 1):
            try:
                return await self.try_once(question, attempt)
            except (openai.APIError, ValidationError) as error:
                if not self.may_retry(error, attempt):
                    raise self.final_error(error) from error
                await self.wait(error, attempt)
        raise AssertionError("the last attempt is never followed by another")

    async def try_once(self, question: Question, attempt: int) -> Answer:
        await self.pace.turn(question.tokens + self.request.max_tokens)
        await self.wait_for_turn()
        highest = self.policy.highest(question, self.request, self.undercount)
        self.budget.set_aside(highest)
        self.requests += 1
        began, started = time.time(), time.perf_counter()
        try:
            content = await self.asking.ask(question.body)
        except openai.APIStatusError as error:
            self.budget.settle(highest, 0.0)  # a refused request costs nothing; after a time-out the cost is unknown
            if (unanswered := refused(error)) is None:
                raise
            return timed(unanswered, began=began, ended=began + time.perf_counter() - started, retries=attempt)
        ended = began + time.perf_counter() - started
        answer = timed(read_completion(content), began=began, ended=ended, retries=attempt)
        self.budget.settle(highest, self.policy.paid(answer))
        if question.tokens:
            self.undercount = max(self.undercount, answer.usage.prompt / question.tokens)
        return answer

    async def wait_for_turn(self) -> None:
        """Start one request per turn of the event loop.

        Requests of the same turn are sent together and answered together, with an idle loop in between.
        """
        async with self.start_lock:
            await asyncio.sleep(0)

    def may_retry(self, error: Exception, attempt: int) -> bool:
        most = self.policy.provider.max_retries
        unreachable = isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)
        if unreachable and not self.answered:
            most = min(most, UNREACHABLE_RETRIES)
        return attempt < most and is_passing(error) and self.failure is None

    async def wait(self, error: Exception, attempt: int) -> None:
        seconds = pause(error, attempt)
        if asked_pause(error) is not None:
            self.pace.hold(seconds)
        self.step(note=f"{_short(error)}, again in {seconds:.0f} s")
        await asyncio.sleep(seconds)

    def final_error(self, error: Exception) -> Exception:
        if isinstance(error, ValidationError):
            who = f"provider {self.policy.provider.kind}"
            return ProviderError(f"{who}: the answer is not a chat completion ({_short(error)}); is base_url right?")
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
