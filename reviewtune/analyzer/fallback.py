"""The chain of models that answer: the first one that can answers a review; a person, if none can.

Each review is on its own: the next model answers only those that the one before could not. The log says once that a
model does not answer, and once that it does again. It never contains a review.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock

from reviewtune.analyzer.background_loop import in_daemon_thread
from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import EMPTY, Classifier, Outcome, classification_of
from reviewtune.errors import ProviderError, ReviewtuneError

log = logging.getLogger("reviewtune.analyzer")
RESTS_AFTER = 3
"""Calls in a row without any answer, after which a model is not asked for a while: reviews would wait in vain."""
GIVES_UP_AFTER = 16
"""Reviews of one call without any answer, after which the rest of them is not asked: it may be thousands."""
OPENING_SECONDS = 60.0
"""For opening a model of a chain without a limit per call. The thread goes on; the next call may find it open."""


class _Call:
    """The outcomes of one call so far.

    Args:
        texts: how many texts there are.
    """

    def __init__(self, texts: int) -> None:
        self.outcomes: list[Outcome | None] = [None] * texts
        self.answered, self.failed = 0, 0
        self.fault: str | None = None

    def note(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        if isinstance(outcome, ProviderError):
            self.failed, self.fault = self.failed + 1, str(outcome)
        elif outcome is not EMPTY:  # no model was asked about an empty review
            self.answered += 1

    def all_outcomes(self) -> list[Outcome]:
        """With the fault for each text that got no outcome."""
        missing = ProviderError(self.fault or "no answer")
        return [missing if outcome is None else outcome for outcome in self.outcomes]


class Member:
    """One model of the chain, which is opened when it is needed.

    Args:
        title: such as "the champion".
        opener: opens it.
        rest: seconds without a question after several failures in a row.
        limit: seconds for all reviews of a call together, and for opening it before; None: no limit for the reviews.
    """

    def __init__(
        self, title: str, opener: Callable[[], Classifier], *, rest: float, limit: float | None = None
    ) -> None:
        self.title, self._opener, self._rest, self._limit = title, opener, rest, limit
        self._opening, self._changing = Lock(), Lock()
        self._opened: Future[Classifier] | None = None
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
        """The classification of each text, or why there is none. What was answered within the limit counts."""
        call = _Call(len(texts))
        try:
            async with asyncio.timeout(self._limit) as clock:
                await self._ask(texts, call, clock)
        except TimeoutError:
            call.fault = call.fault or f"{self.title}: no answer within {self._limit:g} s"
        except ReviewtuneError as error:
            call.fault = str(error)
        finally:  # also if the caller does not wait any more
            if call.fault and not call.answered:
                self.note_failure(call.fault)
        return call.all_outcomes()

    async def _ask(self, texts: Sequence[str], call: _Call, clock: asyncio.Timeout) -> None:
        """Ask until all outcomes are known, or the model is given up, which ends the time on the clock."""

        def note(index: int, outcome: Outcome) -> None:
            call.note(index, outcome)
            if not isinstance(outcome, ProviderError) and call.answered and self.fault is not None:
                self._note_success()
            enough = RESTS_AFTER if self.rests else GIVES_UP_AFTER
            if not call.answered and call.failed >= enough and not clock.expired():
                clock.reschedule(0)

        classifier = self._classifier
        if classifier is None:
            classifier = await self._open()
        await classifier.aclassify(texts, note)

    async def _open(self) -> Classifier:
        """Open it in a thread that other calls wait for too.

        Raises:
            ProviderError: it cannot be opened, or not within the limit.
        """
        with self._changing:
            if self._opened is None or self._opened.done():
                self._opened = in_daemon_thread(self.classifier, f"reviewtune opens {self.title}")
            opened = self._opened
        try:
            return await asyncio.wait_for(asyncio.wrap_future(opened), self._limit or OPENING_SECONDS)
        except TimeoutError as error:
            raise ProviderError(f"{self.title}: it could not be opened in time") from error
        except ReviewtuneError:
            raise
        except Exception as error:
            raise ProviderError(f"{self.title}: it could not be opened ({type(error).__name__})") from error

    def note_failure(self, fault: str) -> None:
        """Count a call without any answer."""
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
        """Why no model can be asked now; None: one can. Makes the first one ready, which may take seconds."""
        head, is_open = self.members[0], True
        try:
            head.classifier().open()
        except ReviewtuneError as error:
            head.note_failure(str(error))
            is_open = False
        if (is_open and not head.rests) or not all(member.rests for member in self.members[1:]):
            return None
        return head.fault

    def _awake(self) -> list[Member]:
        """All members if all rest: one of them may be back."""
        return [member for member in self.members if not member.rests] or list(self.members)


def _without_faults(outcomes: Sequence[Outcome], *, keep_all: bool) -> list[Classification]:
    faults = [outcome for outcome in outcomes if isinstance(outcome, ProviderError)]
    if faults and len(faults) == len(outcomes) and not keep_all:
        raise faults[0]
    return [classification_of(outcome) for outcome in outcomes]
