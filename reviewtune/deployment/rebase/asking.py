"""Ask the old model about reviews without a label while it answers: each answer is paid for once and kept at once.

An answer is in the answer cache as soon as it arrives, and in data/teacher/ when the asking ends or fails. So the same
command continues after Ctrl-C, kill -9, a spent budget, or the end of the old model: then with what is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import pandas as pd

from reviewtune.core.formatting import counted, money
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.sides.review_key import KEY
from reviewtune.deployment.rebase.answers_file import ANSWER, CONFIDENCE, LABEL, SOURCE, WHY, AnswersFile
from reviewtune.deployment.rebase.unlabelled import Unlabelled
from reviewtune.errors import BudgetError, ProviderError
from reviewtune.evaluation.evaluate import decided
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.subject import ModelSubject, why_unusable
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.completion import Question

if TYPE_CHECKING:
    from reviewtune.data.prompts import Message
    from reviewtune.providers.completion import Answer

    Known = dict[str, Answer]

TITLE = "old model"
ROUNDS = 2  # how often a review is asked whose answer did not come or cannot be read
GONE = 410  # HTTP status


@dataclass(frozen=True)
class Asked:
    """The old model's answers.

    Args:
        rows: with the columns of the answers' file, one per review that got an answer.
        not_asked: number of reviews without one.
        ended: why there are such reviews; None: there are none.
        spent_usd: what all answers cost.
    """

    rows: pd.DataFrame
    not_asked: int
    ended: str | None
    spent_usd: float


def ask_old(
    subject: ModelSubject,
    unlabelled: Unlabelled,
    valid: pd.DataFrame,
    file: AnswersFile,
    *,
    before: Sequence[str] = (),
    budget_usd: float | None,
    progress: Progress = SILENT,
) -> Asked:
    """Ask about all reviews that have no answer yet, and write the file of answers.

    Args:
        subject: the old model and how it is asked.
        unlabelled: the reviews.
        valid: the validation reviews, on which a label prior is estimated if the model's labels are corrected.
        file: of the answers; its rows are not asked again.
        before: texts that the old model was asked about before, whose answers count for the budget.
        budget_usd: cap on the cost of all answers, those of earlier commands included; None: no cap.
        progress: receives messages and a progress bar.

    Raises:
        ProviderError: the old model failed while it was asked, or it does not answer and nothing is kept.
    """
    asking = _Asking(subject, unlabelled, valid, file, before=before, budget_usd=budget_usd, progress=progress)
    return asking.written(asking.run())


class _Asking:
    """One command's work: what is known, what is asked."""

    def __init__(
        self,
        subject: ModelSubject,
        unlabelled: Unlabelled,
        valid: pd.DataFrame,
        file: AnswersFile,
        *,
        before: Sequence[str],
        budget_usd: float | None,
        progress: Progress,
    ) -> None:
        self.subject, self.valid, self.file = subject, valid, file
        self.progress, self.budget_usd = progress, budget_usd
        self.reviews, in_file = unlabelled.reviews, file.read()
        self.in_file = in_file[in_file[KEY].isin(self.reviews[KEY])]
        self.chats = dict(zip(self.reviews[KEY], subject.chats(self.reviews["text"].tolist()), strict=True))
        self.unusable: Known = {}  # answers that cannot be used and are not cached
        self.cached = self.kept()
        self.before, self.paid_before = len(self.known), self.paid(self.answers_to(before))

    # --- what is known ---

    def kept(self) -> "Known":
        """The answers in the cache, by review."""
        answers = self.in_cache(list(self.chats.values()))
        return {key: answer for key, answer in zip(self.chats, answers, strict=True) if answer is not None}

    def answers_to(self, texts: Sequence[str]) -> "list[Answer]":
        """The cached answers to these texts."""
        return [answer for answer in self.in_cache(self.subject.chats(list(texts))) if answer is not None]

    def in_cache(self, chats: "list[list[Message]]") -> "list[Answer | None]":
        from reviewtune.providers.inference import kept_answers

        return kept_answers(self.subject.policy, self.subject.request, chats) if chats else []

    def paid(self, answers: "Iterable[Answer]") -> float:
        return sum(self.subject.policy.paid(answer) for answer in answers)

    @property
    def known(self) -> set[str]:
        """The reviews that have an answer."""
        return {*self.in_file[KEY], *self.cached, *self.unusable}

    @property
    def spent(self) -> float:
        """USD that all answers cost, as far as the cache has them."""
        return self.paid_before + self.paid(self.cached.values())

    def counts(self, known: int) -> str:
        return f"{known:,} of {counted(len(self.chats), 'answer')}"

    # --- ask ---

    def run(self) -> str | None:
        """Ask until all reviews have an answer; returns why not if they do not."""
        if self.before:
            self.progress.message(f"{TITLE}: {self.counts(self.before)} kept from before")
        for number in range(ROUNDS):
            try:
                ended = self.ask_missing(is_last=number == ROUNDS - 1)
            except ProviderError as error:
                return self.after_error(error)
            if ended or len(self.known) == len(self.chats):
                return ended
        return None

    def ask_missing(self, *, is_last: bool) -> str | None:
        """Ask what the budget allows, again and again: answers cost less than the most that they may cost."""
        while missing := [key for key in self.chats if key not in self.known]:
            some, before, lost = self.affordable(missing), len(self.cached), dict[str, "Answer"]()
            try:
                lost = self.ask(some) if some else lost
            except BudgetError:
                self.cached = self.kept()
            if not some or (not lost and len(self.cached) == before):
                cap = f"the budget of {self.budget_usd:g} USD (--budget-usd, otherwise evaluation.budget_usd)"
                return f"{cap} allows no more ({money(self.spent)} are spent)"
            if lost and not is_last:
                return None  # the next round asks about them again
            self.unusable |= lost
        return None

    def ask(self, reviews: Sequence[str]) -> "Known":
        """Ask about these reviews; returns the answers that cannot be used this time."""
        from reviewtune.providers.inference import ask

        policy, chats = replace(self.subject.policy, budget_usd=self.cap()), [self.chats[key] for key in reviews]
        asked = ask(policy, self.subject.request, chats, title=TITLE, progress=self.progress)
        answers = dict(zip(reviews, asked.answers, strict=True))
        self.cached |= {key: answer for key, answer in answers.items() if answer.unreadable is None}
        return {key: answer for key, answer in answers.items() if answer.unreadable is not None}

    def affordable(self, missing: list[str]) -> list[str]:
        """The first of these reviews whose answers fit into the budget, at the highest price."""
        if self.budget_usd is None:
            return missing
        policy, request = self.subject.policy, self.subject.request
        tokens = {key: policy.tokens_of(chat) for key, chat in self.chats.items()}
        # As the provider counts: otherwise the next command, which has seen more answers, would end elsewhere.
        seen = [self.cached[key].usage.prompt / tokens[key] for key in self.cached if tokens[key]]
        undercount = max([1.0, *seen])
        highest = [policy.highest(Question("", {}, tokens[key]), request, undercount) for key in missing]
        left = self.budget_usd - self.spent
        return [key for key, total in zip(missing, accumulate(highest), strict=True) if total <= left]

    def cap(self) -> float | None:
        """The cap of this process. What it has spent counts for it, so that all commands together keep theirs."""
        if self.budget_usd is None:
            return None
        with open_store() as store:
            booked = Budget(store, self.budget_usd, scope()).spent
        return self.budget_usd - self.spent + booked

    def after_error(self, error: ProviderError) -> str:
        """Continue with what is kept if the old model has ended; otherwise keep it and say how to continue.

        Raises:
            ProviderError: this command got answers before the error, or the error is not one of a model that ended.
        """
        self.cached = self.kept()
        kept = len(self.known)
        if kept and kept == self.before and has_ended(error):
            self.progress.message(f"{TITLE}: it does not answer; the new model is trained with {self.counts(kept)}")
            return f"the old model does not answer: {error}"
        self.written(None)
        hint = (
            f"{self.counts(kept)} are kept in {self.file.path.name}: run the same command again to continue; if the "
            "old model has ended by then, the new one is trained with these"
        )
        raise ProviderError(f"{error}; {hint if kept else 'it gave no answer, so nothing is kept'}") from error

    # --- write ---

    def written(self, ended: str | None) -> Asked:
        """The rows of all answers, which the file then has."""
        present, answers = set(self.in_file[KEY]), self.cached | self.unusable
        new = {key: answer for key, answer in answers.items() if key not in present}
        in_file = self.file.read()  # again: people may have corrected labels while the model was asked
        if new:
            added = self.rows_of(new)
            in_file = pd.concat([in_file, added[~added[KEY].isin(in_file[KEY])]], ignore_index=True)
            self.file.write(in_file)
        rows = in_file[in_file[KEY].isin(self.reviews[KEY])]
        rows = rows.sort_values(KEY).reset_index(drop=True)  # equal answers must give an equal training file
        return Asked(rows, len(self.chats) - len(rows), ended, self.spent)

    def rows_of(self, new: "Known") -> pd.DataFrame:
        """One row per answer."""
        known = self.valid if self.subject.asks_validation else self.valid.iloc[:0]
        on_valid = self.answers_to(known["text"].tolist())
        if len(on_valid) < len(known):
            known, on_valid = known.iloc[:0], []
        asked = self.reviews[self.reviews[KEY].isin(new)].reset_index(drop=True).assign(label="")
        answers = [new[key] for key in asked[KEY]]
        decision = decided(self.subject, [*on_valid, *answers], known, asked).test
        labels = decision["predicted"].where(decision["predicted"] != INVALID, "")
        sure = decision["confidence"].map("{:.4f}".format) if "confidence" in decision else ""
        why = ["" if label else why_unusable(answer) for label, answer in zip(labels, answers, strict=True)]
        columns = {LABEL: labels, ANSWER: labels, CONFIDENCE: sure, SOURCE: self.file.source, WHY: why}
        return asked.assign(**columns)


def has_ended(error: ProviderError) -> bool:
    """Whether the error is one of a model that is gone: nothing answers, or the model or the access is not there."""
    import openai

    cause = error.__cause__
    gone = openai.APIConnectionError | openai.NotFoundError | openai.PermissionDeniedError | openai.AuthenticationError
    status = cause.status_code if isinstance(cause, openai.APIStatusError) else None
    return isinstance(cause, gone) or status == GONE
