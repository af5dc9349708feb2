"""Send single requests: many at once, within the rate limits, with retries; each answer is kept when it arrives.

The local provider gets no more at once than it can answer within the time-out, at the speed that it has shown.

When the provider fails for good, or the budget ends, no new request is sent, but running ones may finish, as they are
paid for. A request that fails alone, while others with the same settings are answered, does not stop the others.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from textwrap import shorten

import openai

from reviewtune.core.terminal.progress import SILENT, Progress, Step
from reviewtune.data.prompts import Message
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.completion import Answer, Fetched, Question, Request, timed, unreadable
from reviewtune.providers.rate_limit import InFlight, Pace
from reviewtune.providers.responses.completion_body import read_completion
from reviewtune.providers.responses.http_client import unreachable
from reviewtune.providers.responses.json_text import ErrorBodyError, UnreadableError
from reviewtune.providers.responses.provider_errors import status_and_words
from reviewtune.providers.responses.rejections import refused, refused_by
from reviewtune.providers.retry_policy import asked_pause, is_passing, is_refusal, most_retries, pause
from reviewtune.providers.transport import Completions, causes, completions

Keep = Callable[[Question, Answer], None]
BYTES_A_TOKEN = 4  # roughly
PROBES = 10  # questions that may fail one after the other until the settings are known to be wrong
MOST_IN_A_ROW = 20  # unreadable answers, in addition to one per worker; more of them are not chance
ABOUT_ONE = (400, 413, 422, 451)  # statuses that are about one review, if others are answered
TIMED_OUT = (408, 504, 524)  # of a gateway: behind it the model may have answered, and the answer may be charged
BLOCKED = 403  # may be about one review, as of a firewall, or about all, as of an account


async def ask_online(
    client: openai.OpenAI,
    request: Request,
    questions: Sequence[Question],
    *,
    policy: CallPolicy,
    budget: Budget,
    keep: Keep,
    step: Step,
    proven: bool = False,
    progress: Progress = SILENT,
) -> Fetched:
    """Ask every question.

    Requests are sent one at a time until one is answered: the first may load the model, which would distort the
    measured times, and it shows for the price of one request whether key, model and settings are right.

    Args:
        client: a client of the provider.
        request: the model and its settings.
        questions: what to ask.
        policy: how the provider is called.
        budget: what is left to spend.
        keep: called with each answer when it arrives.
        step: called for each answer, and with a note for each retry.
        proven: whether the provider answered requests with these settings before.
        progress: receives a message when the provider cannot be reached, and for how long it is tried.

    Returns:
        The number of requests, and the questions without a usable answer.

    Raises:
        openai.OpenAIError: the provider failed for good, or it answered none of the questions.
        BudgetError: the next request could cost more than is left.
    """
    async with completions(client, policy.provider) as asking:
        run = _Run(asking, request=request, policy=policy, budget=budget, keep=keep, step=step, progress=progress)
        run.proven, run.shared = proven, questions[0].body["messages"]
        queue = iter(questions)
        while not run.answered and run.failure is None and (first := next(queue, None)):
            await run.work(iter([first]))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(policy.provider.concurrency, len(questions) - 1)):
                group.create_task(run.work(queue))
    failure = run.failure or (None if run.proven else run.problem)
    if failure:
        raise failure
    return Fetched(run.requests, run.unreadable)


class _Run:
    """The state that the workers share."""

    def __init__(
        self,
        asking: Completions,
        *,
        request: Request,
        policy: CallPolicy,
        budget: Budget,
        keep: Keep,
        step: Step,
        progress: Progress,
    ) -> None:
        self.asking, self.request, self.policy, self.budget = asking, request, policy, budget
        self.keep, self.step, self.progress = keep, step, progress
        self.pace = Pace(policy.requests_per_minute, policy.tokens_per_minute)
        self.in_flight = InFlight(policy.provider.timeout if policy.provider.kind == "local" else None)
        self.start_lock = asyncio.Lock()
        self.requests = self.answered = 0
        self.shared: list[Message] = []  # messages of the first question
        self.in_a_row = 0  # questions without a usable answer since the last answer
        self.undercount = 1.0  # the largest ratio so far of the provider's count of prompt tokens to reviewtune's
        self.proven = False  # whether any request with these settings was ever answered
        self.unreadable: dict[str, Answer] = {}
        self.problem: Exception | None = None  # the latest one that is about a single question
        self.failure: Exception | None = None

    async def work(self, queue: Iterator[Question]) -> None:
        """Take questions from the queue until it is empty or a worker failed."""
        while self.failure is None and (question := next(queue, None)) is not None:
            before, began = self.answered, time.time()
            try:
                self.keep(question, await self.ask(question))
            except Exception as error:  # raised at the end, after the running requests have finished
                if self.is_about_one(error, others_answered=self.answered > before):
                    self.put_aside(question, error, began)
                else:
                    self.failure = self.failure or error
            else:
                self.answered, self.in_a_row, self.proven = self.answered + 1, 0, True
                self.step(1)

    async def ask(self, question: Question) -> Answer:
        """Ask until there is an answer or another attempt cannot help."""
        unreadable_so_far = 0
        for attempt in range(self.policy.provider.max_retries + 1):
            try:
                return await self.try_once(question, attempt)
            except (openai.APIError, UnreadableError) as error:
                is_unreadable = isinstance(error, UnreadableError) and not is_refusal(error)
                if not self.may_retry(error, attempt, of_its_kind=unreadable_so_far if is_unreadable else attempt):
                    raise
                unreadable_so_far += is_unreadable
                await self.wait(error, attempt)
        raise AssertionError("the last attempt is never followed by another")

    def is_about_one(self, error: Exception, *, others_answered: bool) -> bool:
        """Whether an error says nothing about the other questions.

        Args:
            error: raised after the last attempt.
            others_answered: whether other questions were answered while this one was tried.
        """
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        if status in ABOUT_ONE and self.proven:
            return True
        if isinstance(error, UnreadableError) or status in (*ABOUT_ONE, BLOCKED):
            most = MOST_IN_A_ROW + self.policy.provider.concurrency if self.proven else PROBES
            return self.in_a_row + 1 < most
        return isinstance(error, openai.APIConnectionError | openai.InternalServerError) and others_answered

    def put_aside(self, question: Question, error: Exception, began: float) -> None:
        self.problem, self.in_a_row = error, self.in_a_row + 1
        self.unreadable[question.key] = timed(unreadable(_reason(error)), began=began, ended=time.time())
        self.step(1, note=_short(error))

    async def try_once(self, question: Question, attempt: int) -> Answer:
        size = self.size_of(question)
        async with self.in_flight.place(size):
            await self.pace.turn(question.tokens + self.request.max_tokens)
            await self.wait_for_turn()
            return await self.send(question, attempt, size)

    def size_of(self, question: Question) -> int:
        """Bytes of the messages that are its own, since shared ones are computed once, and of the longest answer."""
        own = [message["content"] for message in question.body["messages"] if message not in self.shared]
        return len("".join(own).encode()) + BYTES_A_TOKEN * self.request.max_tokens

    async def send(self, question: Question, attempt: int, size: int) -> Answer:
        """Send one request; `size` as of `size_of`."""
        highest = self.policy.highest(question, self.request, self.undercount)
        self.budget.set_aside(highest)
        self.requests += 1
        began, started = time.time(), time.perf_counter()
        try:
            content = await self.asking.ask(question.body)
        except openai.APIStatusError as error:
            if error.status_code not in TIMED_OUT:  # a refused request costs nothing; after a time-out nobody knows
                self.budget.settle(highest, 0.0)
            if (unanswered := refused(error)) is None:
                raise
            return timed(unanswered, began=began, ended=began + time.perf_counter() - started, retries=attempt)
        self.in_flight.note(size)
        ended = began + time.perf_counter() - started
        answer = timed(self.read(content, highest), began=began, ended=ended, retries=attempt)
        if question.tokens:
            self.undercount = max(self.undercount, answer.usage.prompt / question.tokens)
        return answer

    def read(self, content: bytes, highest: float) -> Answer:
        """The answer, booked at its cost; at the highest one if it cannot be read or has no count of tokens."""
        try:
            answer = read_completion(content)
        except ErrorBodyError as error:
            self.budget.settle(highest, 0.0)
            if (unanswered := refused_by(error)) is None:
                raise
            return unanswered
        self.budget.settle(highest, self.policy.paid(answer) if answer.usage.prompt else highest)
        return answer

    async def wait_for_turn(self) -> None:
        """Start one request per turn of the event loop.

        Requests of the same turn are sent together and answered together, with an idle loop in between.
        """
        async with self.start_lock:
            await asyncio.sleep(0)

    def may_retry(self, error: Exception, attempt: int, *, of_its_kind: int) -> bool:
        """Whether to try again; `of_its_kind` counts the earlier failures that the limit of this error is about."""
        allowed = self.policy.provider.max_retries
        most = most_retries(error, allowed=allowed, reached=self.answered > 0)
        return attempt < allowed and of_its_kind < most and is_passing(error) and self.failure is None

    async def wait(self, error: Exception, attempt: int) -> None:
        seconds = pause(error, attempt)
        if asked_pause(error) is not None:
            self.pace.hold(seconds)
        self.step(note=f"{_short(error)}, again in {seconds:.0f} s")
        if attempt == 0 and not self.answered:
            self.explain(error)
        await asyncio.sleep(seconds)

    def explain(self, error: Exception) -> None:
        """Say at once what is tried, and for how long, if the first request got no answer."""
        if isinstance(error, openai.APIConnectionError):
            who = f"provider {self.policy.provider.kind}"
            most = most_retries(error, allowed=self.policy.provider.max_retries, reached=False)
            cause = error if isinstance(error, openai.APITimeoutError) else [*causes(error)][-1]
            self.progress.message(unreachable(who, error.request, cause, retries=most))


def _reason(error: Exception) -> str:
    """Why a question has no usable answer."""
    match error:
        case openai.APIStatusError():
            return status_and_words(error)
        case UnreadableError():
            return f"the server sent {error}"
    return _short(error)


def _short(error: Exception) -> str:
    match error:
        case openai.APIStatusError():
            return f"HTTP {error.status_code}"
        case openai.APITimeoutError():
            return "no answer in time"
        case openai.APIConnectionError():
            return "connection lost"
        case UnreadableError():
            return shorten(f"unreadable: {error}", 60)
    return type(error).__name__
