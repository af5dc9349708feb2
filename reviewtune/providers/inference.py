"""Ask one model about many reviews: cached answers come from the store, the others from the provider."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from reviewtune.core.formatting import counted
from reviewtune.core.progress import SILENT, Progress
from reviewtune.data.prompts import Message
from reviewtune.errors import BudgetError
from reviewtune.providers.answer_cache import AnswerStore, open_store
from reviewtune.providers.batch_api import ask_batch
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.client import connect
from reviewtune.providers.completion import Answer, Question, Request, busy_seconds, key_of
from reviewtune.providers.online import ask_online

__all__ = ["Answer", "Answers", "CallPolicy", "Request", "ask"]


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
    bodies = [request.body(chat) for chat in chats]
    keys = [key_of(policy.address, body, request.repeat) for body in bodies]
    with open_store() as store:
        answers = store.find(keys)
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if key not in answers}
        questions = [Question(key, body, tokens=policy.tokens_of(body["messages"])) for key, body in missing.items()]
        if cached := sum(key in answers for key in keys):
            rest = f"{len(questions)} to ask" if questions else "no request is made"
            progress.message(f"{title}: {cached} of {counted(len(keys), 'answer')} kept from before, {rest}")
        requests = _fetch(store, policy, request, questions, title, progress) if questions else 0
        answers |= store.find(list(missing))
    return Answers(answers=[answers[key] for key in keys], requests=requests, cached=cached)


def _fetch(
    store: AnswerStore, policy: CallPolicy, request: Request, questions: list[Question], title: str, progress: Progress
) -> int:
    budget = Budget(store, policy.budget_usd, scope())
    _announce(policy, request, questions, budget, title, progress)
    with connect(policy.provider) as client, progress.bar(title, total=len(questions)) as step:
        if policy.mode == "batch":
            return ask_batch(client, request, questions, policy=policy, store=store, budget=budget, step=step)

        def keep(question: Question, answer: Answer) -> None:
            store.keep(request.model, {question.key: answer})

        return _run(
            lambda: ask_online(client, request, questions, policy=policy, budget=budget, keep=keep, step=step),
        )


def _announce(
    policy: CallPolicy, request: Request, questions: list[Question], budget: Budget, title: str, progress: Progress
) -> None:
    """Report what the requests may cost before anything is paid, and refuse them if they cannot fit the budget."""
    if policy.prices is None:
        return
    low, high = policy.estimated(questions, request)
    cap = f"; the budget has {budget.limit - budget.spent:.6f} left" if budget.limit is not None else ""
    progress.message(
        f"{title}: {counted(len(questions), 'request')} ({policy.mode}) may cost {low:.6f} to {high:.6f} USD{cap}"
    )
    if budget.limit is not None and budget.spent + low > budget.limit:
        raise BudgetError(
            f"{title}: {counted(len(questions), 'request')} would cost at least {low:.6f} USD; evaluation.budget_usd "
            f"is {budget.limit:g}, {budget.spent:.6f} of it spent; nothing was sent: raise it or ask fewer reviews"
        )


def _run(work: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run to the end, also inside a notebook, whose event loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        return portal.call(work)
