"""The thread that runs batch files in large slices, because the engine is fastest on many requests at once.

Answers are on disk before they are counted, and a line with an answer is never run again. So a server that was killed
continues where it stopped.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.batches.folder import BatchFolder, Tally
from reviewtune.local_server.batches.lines import (
    Answers,
    PreparedLine,
    ResultLines,
    check,
    expired_lines,
    read_requests,
    result_lines,
)
from reviewtune.local_server.batches.service import ACTIVE, WINDOW, get_batch, set_status
from reviewtune.local_server.chat import translation
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.served_model import AnswerOrError
from reviewtune.local_server.engine.base_models.disk_space import lacks_space
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.files.service import add_file
from reviewtune.local_server.models.service import get_model
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage import content_ids
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Batch, now

SLICE = 512  # lines that the engine gets at a time
OUTPUT_LIFETIME = 30 * 24 * 3600  # seconds
CANCEL_CHECK = 0.5  # seconds between looks at whether the batch was cancelled
RETRY = 2.0  # seconds after a step that failed, for example on a full disk

log = logging.getLogger(__name__)


class RunningBatch(NamedTuple):
    """The batch that is being answered: what is done, and the lines that remain."""

    batch_id: str
    tally: Tally
    lines: Iterator[PreparedLine]


class BatchRunner(threading.Thread):
    """Checks, answers and finishes batches, one at a time."""

    def __init__(self, account: Account, model_thread: ModelThread) -> None:
        super().__init__(name="batches", daemon=True)
        self._account = account
        self._model_thread = model_thread
        self._closing = False
        self._started_at = now()
        self._run: RunningBatch | None = None

    def run(self) -> None:
        self._remove_orphans()
        while not self._closing:
            self._account.batches_changed.clear()
            try:
                if not self._step():
                    self._account.batches_changed.wait()
            except Exception:
                log.exception("a step of the batches failed; trying again in %g s", RETRY)
                self._run = None  # lines that were read but not answered must be read again
                self._account.batches_changed.wait(RETRY)

    def _remove_orphans(self) -> None:
        """Remove the folders of batches that ended, or were never recorded, just before a server was killed."""
        with self._account.database.reading() as session:
            active = set(session.scalars(select(Batch.id).where(Batch.status.in_(ACTIVE))))
        for folder in self._account.settings.batches.iterdir():
            is_own = folder.name.startswith("batch_")  # the folder may have been there before the account
            if is_own and folder.name not in active and folder.stat().st_mtime < self._started_at:
                shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        self._closing = True
        self._account.batches_changed.set()

    def _step(self) -> bool:
        """Change the status or answer a slice of the batch whose turn it is; returns False if there is none."""
        with self._account.database.reading() as session:
            rows = session.scalars(select(Batch).where(Batch.status.in_(ACTIVE)).order_by(Batch.seq)).all()
        if not rows:
            return False
        row = min(rows, key=lambda row: ACTIVE.index(row.status))
        folder = BatchFolder(self._account.settings.batches / row.id)
        match row.status:
            case "validating" | "in_progress" if not folder.input.exists():
                self._fail(row, folder)
            case "validating":
                self._validate(row, folder)
            case "in_progress":
                self._run_slice(row, folder)
            case "finalizing" | "cancelling":
                self._finish(row, folder)
        return True

    def _validate(self, row: Batch, folder: BatchFolder) -> None:
        checked = check(folder.input, row.endpoint)
        errors = checked.errors
        if not errors and checked.model is not None:
            errors = self._model_errors(checked.model)
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            if row.status != "validating":
                return
            row.model = checked.model
            if errors:
                row.errors = {"object": "list", "data": errors}
                set_status(row, "failed")
            else:
                row.counts = row.counts | {"total": checked.total}
                set_status(row, "in_progress")
        if errors:
            shutil.rmtree(folder.path, ignore_errors=True)

    def _fail(self, row: Batch, folder: BatchFolder) -> None:
        """End a batch whose files somebody removed."""
        message = f"The batch's files were removed from the disk ({folder.input}); create it again."
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            fault = {"code": "file_missing", "message": message, "param": None, "line": None}
            row.errors = {"object": "list", "data": [fault]}
            set_status(row, "failed")

    def _model_errors(self, model: str) -> list[dict[str, str | int | None]]:
        try:
            get_model(self._account, model)
        except ApiError as error:
            return [{"code": error.code, "message": error.message, "param": "body.model", "line": 1}]
        return []

    def _run_slice(self, row: Batch, folder: BatchFolder) -> None:
        if self._run is None or self._run.batch_id != row.id:
            tally = folder.tally()
            self._run = RunningBatch(row.id, tally, read_requests(folder.input, frozenset(tally.done)))
        lines = list(islice(self._run.lines, SLICE))
        if lines and now() > row.created_at + WINDOW:
            lines += self._run.lines
            results = expired_lines(row.id, lines)
        else:
            results = result_lines(row.id, *self._answered(row, lines))
        self._append(folder, results)
        self._run.tally.add(results.output, results.errors)
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            _count(row, self._run.tally)
            if not lines and row.status == "in_progress":
                set_status(row, "finalizing")

    def _append(self, folder: BatchFolder, results: ResultLines) -> None:
        """Write answers; on a full disk, wait for space, because they would have to be computed again."""
        while True:
            try:
                folder.append(results.output, results.errors)
            except OSError as error:
                if self._closing or not lacks_space(error):
                    raise
                log.warning("%s: no space left for a batch's answers; trying again in %g s", folder.path, RETRY)
                time.sleep(RETRY)
            else:
                return

    def _answered(self, row: Batch, lines: Sequence[PreparedLine]) -> tuple[list[PreparedLine], list[Answers]]:
        """The lines that are done, and the engine's answers to those of them that have a question."""
        answers = iter(self._answers(row, [line.question.requests for line in lines if line.question is not None]))
        results = [(line, None if line.question is None else next(answers)) for line in lines]
        done = [(line, answer) for line, answer in results if not isinstance(answer, CancelledError)]
        return [line for line, _ in done], [answer for _, answer in done if answer is not None]

    def _answers(self, row: Batch, questions: Sequence[Sequence[GenerationRequest]]) -> list[Answers]:
        """One entry per question; CancelledError if it was not answered because the batch was cancelled."""
        if not questions or row.model is None:
            return []
        try:
            source = get_model(self._account, row.model)
        except Exception as error:  # the model was deleted in the meantime
            return [error] * len(questions)
        futures = [self._model_thread.submit(source, requests, bulk=True) for requests in questions]
        self._wait(row, futures)
        return [_answer(future) for future in futures]

    def _wait(self, row: Batch, futures: Sequence[Future[list[AnswerOrError]]]) -> None:
        """Wait for answers; if the batch is cancelled, nothing more is computed for it."""
        while not all(future.done() for future in futures):  # a cancelled one is done even while a model is loaded
            wait(futures, timeout=CANCEL_CHECK)
            with self._account.database.reading() as session:
                cancelled = get_batch(session, row.id).status == "cancelling"
            for future in futures if cancelled else ():
                future.cancel()

    def _finish(self, row: Batch, folder: BatchFolder) -> None:
        """Publish the answers; the files and the final status appear together."""
        tally = folder.tally()  # removes lines that are not complete
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            row.output_file_id = self._publish(session, row, folder.output)
            row.error_file_id = self._publish(session, row, folder.errors)
            expired = row.status == "finalizing" and tally.expired
            set_status(row, "cancelled" if row.status == "cancelling" else "expired" if expired else "completed")
        shutil.rmtree(folder.path, ignore_errors=True)

    def _publish(self, session: Session, row: Batch, path: Path) -> str | None:
        if not path.exists() or not path.stat().st_size:
            return None
        name = f"{row.id}_{path.name}"
        copy = path.with_name(f"{path.name}.copy")  # the original must survive a crash before the commit
        shutil.copyfile(path, copy)
        lifetime = OUTPUT_LIFETIME if row.output_lifetime is None else row.output_lifetime
        columns = {"id": f"file-{content_ids.digest(name)[:24]}", "expires_at": now() + lifetime}
        return add_file(self._account, session, copy, name=name, purpose="batch_output", **columns).id


def _answer(future: Future[list[AnswerOrError]]) -> Answers:
    """The answers to one question, or the first error."""
    results: list[GenerationResult] = []
    try:
        for answer in future.result():
            if isinstance(answer, Exception):
                return answer
            results.append(answer)
    except ReviewtuneError as error:
        return translation.model_unavailable(error)
    except Exception as error:  # cancelled, or the model is broken
        return error
    return results


def _count(row: Batch, tally: Tally) -> None:
    row.counts = row.counts | {"completed": tally.completed, "failed": tally.failed}
    row.usage = {
        "input_tokens": tally.prompt_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens},
        "output_tokens": tally.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tally.prompt_tokens + tally.completion_tokens,
    }
