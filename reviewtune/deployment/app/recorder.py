"""Records reviews and their answers, if the user wants that. What the disk does never fails a request."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reviewtune.analyzer.classification import Classification
from reviewtune.deployment.app.day_files import DayFiles
from reviewtune.deployment.app.metrics import AppMetrics
from reviewtune.deployment.app.recorded_answer import RecordedAnswer
from reviewtune.deployment.app.request_log import events
from reviewtune.errors import ConfigError, ReviewtuneError

LONGEST_WAIT = 1.0  # seconds that a response waits for the disk
WAITING = 1_000  # requests that wait for a slow disk, at most
MEGABYTE = 10**6
TEXTS = "as the model gets them; personal data is masked if data.mask_personal is set"

Written = Callable[[Sequence[str]], list[str]]
"""From reviews to the texts that may be recorded: normalised, masked if the model's data are."""


@dataclass
class _Job:
    """The reviews of one request. `done` has a result as soon as they are on the disk, or lost."""

    reviews: Sequence[str]
    answers: Sequence[Classification]
    written: Written
    time: datetime
    done: "Future[None]" = field(default_factory=Future)


class Recorder:
    """Writes in a thread, in the order in which requests were answered.

    Args:
        folder: of the recording.
        days: how many days are kept.
        megabytes: of all files together.
        metrics: count what was recorded and what was not.
    """

    def __init__(self, folder: Path, *, days: int, megabytes: int, metrics: AppMetrics) -> None:
        self._folder, self._metrics = folder, metrics
        self._facts = {"folder": str(folder), "keep_days": days, "keep_mb": megabytes, "texts": TEXTS}
        self._files = DayFiles(folder, days=days, limit=megabytes * MEGABYTE)
        self._jobs: queue.Queue[_Job] = queue.Queue(WAITING)
        self._fault: str | None = None

    def start(self) -> None:
        """Say what is recorded and where, and begin.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            self._files.prepare()
        except OSError as error:
            message = f"--record {self._folder}: cannot be written ({error.strerror}); name a folder that can"
            raise ConfigError(message) from error
        events.warning("recording all reviews and their labels", extra={"facts": self._facts})
        threading.Thread(target=self._work, name="reviewtune-record", daemon=True).start()

    async def record(self, reviews: Sequence[str], answers: Sequence[Classification], written: Written) -> None:
        """Record the reviews of a request before its response is sent; a slow disk delays it by LONGEST_WAIT."""
        job = _Job(reviews, answers, written, datetime.now(UTC))
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._note_lost(len(reviews), f"more than {WAITING:,} requests wait for the disk")
            return
        await asyncio.wait([asyncio.wrap_future(job.done)], timeout=LONGEST_WAIT)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._write(job)
            finally:
                job.done.set_result(None)

    def _write(self, job: _Job) -> None:
        recorded = 0
        try:
            for line in _lines(job):
                self._files.append(line, job.time.date())
                recorded += 1
            self._note_recorded(recorded)
        except Exception as error:  # whatever happens, the next request is recorded
            self._metrics.note_recorded(recorded)
            self._note_lost(len(job.reviews) - recorded, _reason(error))

    def _note_recorded(self, reviews: int) -> None:
        self._metrics.note_recorded(reviews)
        if self._fault is not None:
            self._fault = None
            events.info("recording again")

    def _note_lost(self, reviews: int, reason: str) -> None:
        """Count them, and log the first of several in a row."""
        self._metrics.note_unrecorded(reviews)
        if self._fault is None:
            events.error("reviews are not recorded", extra={"facts": {"reason": reason}})
        self._fault = reason


def _lines(job: _Job) -> list[bytes]:
    time = job.time.isoformat(timespec="milliseconds")
    return [
        RecordedAnswer(
            time=time,
            text=text,
            label=answer.label,
            confidence=answer.confidence,
            sure=answer.sure,
            model=answer.model,
            version=answer.version,
        ).line
        for text, answer in zip(job.written(job.reviews), job.answers, strict=True)
        if text
    ]


def _reason(error: Exception) -> str:
    """Words without a review: messages of unknown exceptions may quote one."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, ReviewtuneError) else type(error).__name__
