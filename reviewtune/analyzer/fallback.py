"""The chain of models that answer: the first one that can answers a review; a person, if none can.

Each review is on its own: the next model answers only those that the one before could not. The log says once that a
model does not answer, and once that it does again. It never contains a review.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from threading import Lock

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import Classifier, Outcome
from reviewtune.errors import ProviderError, ReviewtuneError

log = logging.getLogger("reviewtune.analyzer")
RESTS_AFTER = 3
"""Failures in a row, after which a model is not asked for a while: each review would wait for it in vain."""


class Member:
    """One model of the chain, which is opened when it is needed.

    Args:
        title: such as "the champion".
        opener: opens it.
        rest: seconds without a question after several failures in a row.
    """

    def __init__(self, title: str, opener: Callable[[], Classifier], *, rest: float) -> None:
        self.title, self._opener, self._rest = title, opener, rest
        self._opening, self._changing = Lock(), Lock()
        self._classifier: Classifier | None = None
        self._failures, self._failed_at = 0, 0.0
        self.fault: str | None = None

    def classifier(self) -> Classifier:
        """The classifier; its provider is not asked yet.

        Raises:
            ReviewtuneError: it cannot be opened.
        """
        with self._opening:
            if self._classifier is None:
                self._classifier = self._opener()
            return self._classifier

    @property
    def rests(self) -> bool:
        return self._failures >= RESTS_AFTER and time.monotonic() - self._failed_at < self._rest

    async def attempt(self, texts: Sequence[str]) -> list[Outcome]:
        """The classification of each text, or why there is none."""
        try:
            classifier = self._classifier
            if classifier is None:
                classifier = await asyncio.to_thread(self.classifier)
            outcomes = await classifier.aclassify(texts)
        except ReviewtuneError as error:
            outcomes = [ProviderError(str(error))] * len(texts)
        self._note(outcomes)
        return outcomes

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, ProviderError):
                self._note_failure(str(outcome))
            elif self._failures:
                self._note_success()

    def _note_failure(self, fault: str) -> None:
        with self._changing:
            is_new, self.fault = self.fault is None, fault
            self._failures, self._failed_at = self._failures + 1, time.monotonic()
        if is_new:
            log.warning("%s does not answer (%s); the next of the chain does", self.title, fault)

    def _note_success(self) -> None:
        with self._changing:
            is_new, self.fault, self._failures = self.fault is not None, None, 0
        if is_new:
            log.info("%s answers again", self.title)


class Chain:
    """Models in the order in which they are asked.

    Args:
        members: at least one.
        unsure: whether a review that none can answer gets a classification without a label; otherwise the fault is
            raised if it concerns all reviews of a call.
        notice: called now and with each call; logs if the first model ends soon. None: it is not known to end.
    """

    def __init__(self, members: Sequence[Member], *, unsure: bool, notice: Callable[[], object] | None = None) -> None:
        self.members, self._unsure, self._notice = tuple(members), unsure, notice
        if notice:
            notice()

    @property
    def head(self) -> Classifier:
        """The first model."""
        return self.members[0].classifier()

    async def aclassify(self, texts: Sequence[str]) -> list[Classification]:
        """The classification of each text by the first model that can answer it.

        Raises:
            ProviderError: no model answered any text, and the chain does not end with `unsure`.
        """
        if self._notice:
            self._notice()
        outcomes: list[Outcome] = [ProviderError("no model of the chain can be asked at the moment")] * len(texts)
        waiting = list(range(len(texts)))
        for member in self._awake():
            answers = await member.attempt([texts[index] for index in waiting])
            for index, answer in zip(waiting, answers, strict=True):
                outcomes[index] = answer
            waiting = [index for index in waiting if isinstance(outcomes[index], ProviderError)]
            if not waiting:
                break
        return _without_faults(outcomes, keep_all=self._unsure)

    def unready(self) -> str | None:
        """Why no model can be asked now; None: one can."""
        if not all(member.rests for member in self.members):
            return None
        return self.members[0].fault

    def _awake(self) -> list[Member]:
        """All members if all rest: one of them may be back."""
        return [member for member in self.members if not member.rests] or list(self.members)


def _without_faults(outcomes: Sequence[Outcome], *, keep_all: bool) -> list[Classification]:
    faults = [outcome for outcome in outcomes if isinstance(outcome, ProviderError)]
    if faults and len(faults) == len(outcomes) and not keep_all:
        raise faults[0]
    return [
        Classification(None, why=str(outcome)) if isinstance(outcome, ProviderError) else outcome
        for outcome in outcomes
    ]
