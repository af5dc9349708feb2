"""Many reviews to one model: what was answered before comes from the store, the rest from the provider."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from reviewtune.core.progress import SILENT, Progress
from reviewtune.data.prompts import Message
from reviewtune.errors import BudgetError
from reviewtune.providers.answer_cache import AnswerStore, open_store
from reviewtune.providers.batch_api import ask_batch
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.call_policy import Terms
from reviewtune.providers.client import connect
from reviewtune.providers.completion import Answer, Question, Request, busy_seconds, key_of
from reviewtune.providers.online import ask_online

__all__ = ["Answer", "Answers", "Request", "Terms", "ask"]


@dataclass(frozen=True)
class Answers:
    """In the order of the reviews.

    `requests` counts what was sent for them this time, retries included; `cached` the answers that were there before,
    whose times and usage are those of then.
    """

    answers: list[Answer]
    requests: int
    cached: int

    @property
    def seconds(self) -> float:
        """During which any but the first was under way; that one may have waited for the model to be loaded."""
        return busy_seconds(sorted(self.answers, key=lambda answer: answer.began)[1:])


def ask(
    terms: Terms, request: Request, chats: Sequence[list[Message]], *, title: str, progress: Progress = SILENT
) -> Answers:
    """Ask every chat once, whatever happened before: nothing that was answered is sent again, nothing is skipped.

    Raises:
        ProviderError: a request failed for good; the answers so far are kept for the next run.
        BudgetError: what comes next could cost more than evaluation.budget_usd leaves.
        CacheError: the store of answers cannot be used.
    """
    keys = [key_of(terms.address, request, chat) for chat in chats]
    with open_store() as store:
        found = store.find(keys)
        missing = {key: chat for key, chat in zip(keys, chats, strict=True) if key not in found}
        questions = [Question(key, chat, terms.tokens_of(chat)) for key, chat in missing.items()]
        if cached := sum(key in found for key in keys):
            rest = f"{len(questions)} to ask" if questions else "no request is made"
            progress.message(f"{title}: {cached} of {len(keys)} answers are kept from before, {rest}")
        requests = _fetch(store, terms, request, questions, title, progress) if questions else 0
        found |= store.find(list(missing))
    return Answers([found[key] for key in keys], requests, cached)


def _fetch(
    store: AnswerStore, terms: Terms, request: Request, questions: list[Question], title: str, progress: Progress
) -> int:
    budget = Budget(store, terms.settings.budget_usd, scope())
    _announce(terms, request, questions, budget, title, progress)
    with connect(terms.provider) as client, progress.bar(title, total=len(questions)) as step:
        if terms.mode == "batch":
            return ask_batch(client, request, questions, terms=terms, store=store, budget=budget, step=step)

        def keep(question: Question, answer: Answer) -> None:
            store.keep(request.model, {question.key: answer})

        return _run(
            lambda: ask_online(client, request, questions, terms=terms, budget=budget, keep=keep, step=step),
        )


def _announce(
    terms: Terms, request: Request, questions: list[Question], budget: Budget, title: str, progress: Progress
) -> None:
    """Say what it may cost before anything is paid, and refuse what cannot fit."""
    if terms.prices is None:
        return
    low, high = terms.estimated(questions, request)
    cap = f"; the budget has {budget.limit - budget.spent:.6f} left" if budget.limit is not None else ""
    progress.message(f"{title}: {len(questions)} requests ({terms.mode}) may cost {low:.6f} to {high:.6f} USD{cap}")
    if budget.limit is not None and budget.spent + low > budget.limit:
        raise BudgetError(
            f"{title}: {len(questions)} requests cost {low:.6f} USD at least; evaluation.budget_usd is "
            f"{budget.limit:g}, {budget.spent:.6f} of it spent; nothing was sent: raise it or ask fewer reviews"
        )


def _run(work: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run to the end, inside a notebook too, whose own event loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        return portal.call(work)
