"""Classify reviews with a language model: one request per review, over connections that stay open."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reviewtune.analyzer import background_loop
from reviewtune.analyzer.answer_reader import AnswerReader
from reviewtune.analyzer.classifier import Identity, Note, Outcome, Weights, fingerprint, ignore
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Message
from reviewtune.errors import ProviderError
from reviewtune.evaluation.subject import ModelSubject, why_unusable
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.live import LiveModel


class ModelClassifier:
    """A fine-tuned or prompted model.

    Args:
        subject: the model and how it is asked.
        reader: reads its answers.
        seconds: how long an answer may take; None: provider.timeout.
        progress: receives a message when the provider cannot be reached.
        weights: with which another machine's local provider can answer.
    """

    def __init__(
        self,
        subject: ModelSubject,
        reader: AnswerReader,
        *,
        seconds: float | None = None,
        progress: Progress = SILENT,
        weights: Weights | None = None,
    ) -> None:
        self._subject, self._reader, self._seconds, self._weights = subject, reader, seconds, weights
        self._live = LiveModel(subject.policy, subject.request, seconds=seconds, progress=progress)

    @property
    def model(self) -> str:
        return self._subject.model

    @property
    def version(self) -> str | None:
        return self._reader.verdicts.version

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._subject.prompt.labels)

    @property
    def is_calibrated(self) -> bool:
        return self._reader.verdicts.calibration is not None

    @property
    def identity(self) -> Identity:
        subject, reader = self._subject, self._reader
        pool = None if subject.nearest is None else subject.nearest.identity
        settings = fingerprint(
            subject.policy.address, subject.provider.leave_out, subject.request, reader.verdicts, reader.prior, pool
        )
        return Identity(self.model, self.version, subject.prompt.fingerprint, settings)

    @property
    def policy(self) -> CallPolicy:
        return self._subject.policy

    @property
    def weights(self) -> Weights | None:
        return self._weights

    def shared_by(self, processes: int) -> "ModelClassifier":
        subject = replace(self._subject, policy=self._subject.policy.shared_by(processes))
        return ModelClassifier(subject, self._reader, seconds=self._seconds, weights=self._weights)

    def __getstate__(self) -> dict[str, Any]:
        """Without the connections, which belong to a process."""
        return {
            "subject": self._subject,
            "reader": self._reader,
            "seconds": self._seconds,
            "weights": self._weights,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def open(self) -> None:
        self._live.open()

    def written(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        if not cache:
            return background_loop.run(self.aclassify(texts))
        from reviewtune.providers.inference import ask  # imports the cache and batches, which a service does not use

        subject = self._subject
        asked = ask(subject.policy, subject.request, subject.chats(texts), title="classifying", progress=progress)
        return [
            ProviderError(why_unusable(answer)) if answer.unreadable else self._reader.read(answer)
            for answer in asked.answers
        ]

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        """At most provider.concurrency requests of this call run at once; other calls do not count."""
        chats = await self._chats(texts)
        turn = asyncio.Semaphore(self._subject.provider.concurrency)

        async def classified(index: int, chat: list[Message]) -> Outcome:
            async with turn:
                outcome = await self._classified(chat)
            note(index, outcome)
            return outcome

        return await asyncio.gather(*(classified(index, chat) for index, chat in enumerate(chats)))

    async def _chats(self, texts: Sequence[str]) -> list[list[Message]]:
        """The search for the nearest examples takes milliseconds, the first one seconds, so it runs in a thread."""
        chats = self._subject.chats
        return chats(texts) if self._subject.nearest is None else await asyncio.to_thread(chats, texts)

    async def _classified(self, chat: list[Message]) -> Outcome:
        try:
            return self._reader.read(await self._live.ask(chat))
        except ProviderError as error:
            return error
