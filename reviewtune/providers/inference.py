"""Ask one model about many reviews: cached answers come from the store, the others from the provider."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Message
from reviewtune.errors import BudgetError
from reviewtune.providers.answer_cache import AnswerStore, BatchNotes, open_store
from reviewtune.providers.batch.api import Batches, ask_batch
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.client import connect
from reviewtune.providers.completion import Answer, Fetched, Question, Request, busy_seconds, key_of
from reviewtune.providers.online import ask_online

__all__ = ["Answer", "Answers", "CallPolicy", "Request", "ask", "kept_answers"]


@dataclass(frozen=True)
class Answers:
    """Answers to reviews.

    Args:
        answers: one per review, in the same order.
        requests: how many requests were sent this time, retries included.
        cached: how many answers were cached; their times and usage are those of the original requests.
    """

    answers: list[Answer]
    requests: int
    cached: int

    @property
    def seconds(self) -> float:
        """Time during which requests were running, without the first, which may have waited for the model to load."""
        return busy_seconds(sorted(self.answers, key=lambda answer: answer.began)[1:])


def ask(
    policy: CallPolicy, request: Request, chats: Sequence[list[Message]], *, title: str, progress: Progress = SILENT
) -> Answers:
    """Answer every chat: from the cache if it was answered before, else by one request.

    A chat whose answer cannot be used this time gets an answer that says why. It is not cached.

    Args:
        policy: how the provider is called.
        request: the model and its settings.
        chats: one per review.
        title: shown next to the progress.
        progress: receives what is cached, the cost and the number of answers.

    Raises:
        ProviderError: a request failed for good; the answers so far are kept for the next run.
        BudgetError: the next request could cost more than is left of evaluation.budget_usd.
        CacheError: the cache of answers cannot be used.
    """
    bodies = [policy.body(request, chat) for chat in chats]
    with open_store() as store:
        address = store.key_address(policy.address, shared_name=policy.shared_name)
        keys = [key_of(address, body, request.repeat) for body in bodies]
        answers = store.find(keys)
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if key not in answers}
        questions = [Question(key, body, tokens=policy.tokens_of(body["messages"])) for key, body in missing.items()]
        if cached := sum(key in answers for key in keys):
            rest = f"{len(questions)} to ask" if questions else "no request is made"
            progress.message(f"{title}: {cached} of {counted(len(keys), 'answer')} kept from before, {rest}")
        fetch = _Fetch(
            store=store,
            policy=policy,
            request=request,
            title=title,
            address=address,
            proven=bool(cached),
            progress=progress,
        )
        fetched = fetch.all(questions) if questions else Fetched(0, {})
        answers |= store.find(list(missing)) | dict(fetched.unreadable)
    _report(fetched, title, progress)
    return Answers(answers=[answers[key] for key in keys], requests=fetched.requests, cached=cached)


def kept_answers(policy: CallPolicy, request: Request, chats: Sequence[list[Message]]) -> list[Answer | None]:
    """The cached answer to every chat, None where there is none; nothing is sent.

    Raises:
        CacheError: the cache of answers cannot be used.
    """
    with open_store() as store:
        address = store.key_address(policy.address, shared_name=policy.shared_name)
        keys = [key_of(address, policy.body(request, chat), request.repeat) for chat in chats]
        answers = store.find(keys)
    return [answers.get(key) for key in keys]


def _report(fetched: Fetched, title: str, progress: Progress) -> None:
    if unreadable := list(fetched.unreadable.values()):
        progress.message(
            f"{title}: {counted(len(unreadable), 'review')} got no usable answer and will be asked again when this "
            f"runs again (`dvc repro` with --force); the first: {unreadable[0].unreadable}"
        )


@dataclass(frozen=True, kw_only=True)
class _Fetch:
    """Asks the provider what is not cached.

    Args:
        store: the cache of answers.
        policy: how the provider is called.
        request: the model and its settings.
        title: shown next to the progress.
        address: of the provider, as it is in the keys of answers.
        proven: whether the provider answered requests with these settings before.
        progress: receives the cost and the number of answers.
    """

    store: AnswerStore
    policy: CallPolicy
    request: Request
    title: str
    address: str
    proven: bool
    progress: Progress

    def all(self, questions: list[Question]) -> Fetched:
        budget = Budget(self.store, self.policy.budget_usd, scope())
        self._announce(questions, budget)
        title, progress = self.title, self.progress
        with (
            connect(self.policy.provider, progress=progress) as client,
            progress.bar(title, total=len(questions)) as step,
        ):
            if self.policy.mode == "batch":
                batches = Batches(
                    client,
                    request=self.request,
                    policy=self.policy,
                    store=self.store,
                    address=self.address,
                    budget=budget,
                    step=step,
                )
                return ask_batch(batches, questions, proven=self.proven)
            return _run(
                lambda: ask_online(
                    client,
                    self.request,
                    questions,
                    policy=self.policy,
                    budget=budget,
                    keep=self._keep,
                    step=step,
                    proven=self.proven,
                    progress=progress,
                ),
            )

    def _keep(self, question: Question, answer: Answer) -> None:
        self.store.keep(self.request.model, {question.key: answer})

    def _announce(self, questions: list[Question], budget: Budget) -> None:
        """Report what the requests may cost before anything is paid, and refuse them if they cannot fit the budget."""
        if self.policy.prices is None:
            return
        if self.policy.mode == "batch":  # batches that were sent before are only collected
            sent = {key for note in BatchNotes(self.store, self.address) for key in note.keys}
            questions = [question for question in questions if question.key not in sent]
            if not questions:
                return
        low, high = self.policy.estimated(questions, self.request)
        requests = counted(len(questions), "request")
        cap = f"; the budget has {budget.limit - budget.spent:.6f} left" if budget.limit is not None else ""
        self.progress.message(
            f"{self.title}: {requests} ({self.policy.mode}) may cost {low:.6f} to {high:.6f} USD{cap}"
        )
        if budget.limit is not None and budget.spent + low > budget.limit:
            raise BudgetError(
                f"{self.title}: {requests} cost at least {low:.6f} USD; evaluation.budget_usd is "
                f"{budget.limit:g}, {budget.spent:.6f} of it spent; nothing was sent: raise it or ask fewer reviews"
            )


def _run(work: Callable[[], Coroutine[None, None, Fetched]]) -> Fetched:
    """Run to the end, also inside a notebook, whose event loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        return portal.call(work)
