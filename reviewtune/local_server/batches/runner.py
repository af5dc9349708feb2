"""The thread that runs batch files, a big slice at a time: that is where the engine's throughput is.

Answers are on disk before they are counted, and a line that is there is never run again, so a server that is killed
goes on where it was.
"""

import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.batches import lines as batches_lines
from reviewtune.local_server.batches.folder import BatchFolder, Tally
from reviewtune.local_server.batches.lines import PreparedLine
from reviewtune.local_server.batches.service import ACTIVE, WINDOW, get_batch, set_status
from reviewtune.local_server.chat import translation
from reviewtune.local_server.chat.model_thread import AnswerOrError, ModelThread
from reviewtune.local_server.files.service import add_file
from reviewtune.local_server.models.service import get_model
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage import content_ids
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Batch, now

SLICE = 512  # lines that the engine gets at once
OUTPUT_LIFETIME = 30 * 24 * 3600
RETRY = 2.0  # seconds after a step that failed, on a full disk for instance

log = logging.getLogger(__name__)


class RunningBatch(NamedTuple):
    """The batch under way: what it has behind it, and before it."""

    batch_id: str
    tally: Tally
    requests: Iterator[PreparedLine]


class BatchRunner(threading.Thread):
    def __init__(self, account: Account, dispatcher: ModelThread) -> None:
        super().__init__(name="batches", daemon=True)
        self._account = account
        self._dispatcher = dispatcher
        self._closing = False
        self._began = now()
        self._run: RunningBatch | None = None

    def run(self) -> None:
        self._sweep()
        while not self._closing:
            self._account.batches_changed.clear()
            try:
                if not self._step():
                    self._account.batches_changed.wait()
            except CancelledError:  # the server ends
                self._run = None
            except Exception:
                log.exception("a step of the batches failed; trying again in %g s", RETRY)
                self._run = None  # what it had read of the file is not answered: read again
                self._account.batches_changed.wait(RETRY)

    def _sweep(self) -> None:
        """Remove the folders of batches that ended, or were never recorded, just before a server was killed."""
        with self._account.database.reading() as session:
            wanted = set(session.scalars(select(Batch.id).where(Batch.status.in_(ACTIVE))))
        for folder in self._account.settings.batches.iterdir():
            if folder.name not in wanted and folder.stat().st_mtime < self._began:
                shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        self._closing = True
        self._account.batches_changed.set()

    def _step(self) -> bool:
        """One state further, or one slice, for the batch whose turn it is."""
        with self._account.database.reading() as session:
            rows = session.scalars(select(Batch).where(Batch.status.in_(ACTIVE)).order_by(Batch.seq)).all()
        if not rows:
            return False
        row = min(rows, key=lambda row: ACTIVE.index(row.status))
        folder = BatchFolder(self._account.settings.batches / row.id)
        match row.status:
            case "validating":
                self._validate(row, folder)
            case "in_progress":
                self._run_slice(row, folder)
            case "finalizing" | "cancelling":
                self._finish(row, folder)
        return True

    def _validate(self, row: Batch, folder: BatchFolder) -> None:
        checked = batches_lines.check(folder.input, row.endpoint)
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

    def _model_errors(self, model: str) -> list[dict[str, str | int | None]]:
        try:
            get_model(self._account, model)
        except ApiError as refusal:
            return [{"code": refusal.code, "message": refusal.message, "param": "body.model", "line": 1}]
        return []

    def _run_slice(self, row: Batch, folder: BatchFolder) -> None:
        if self._run is None or self._run.batch_id != row.id:
            tally = folder.tally()
            self._run = RunningBatch(row.id, tally, batches_lines.read_requests(folder.input, frozenset(tally.done)))
        requests = list(islice(self._run.requests, SLICE))
        if requests and now() > row.created_at + WINDOW:
            requests += self._run.requests
            outcome = batches_lines.expired(row.id, requests)
        else:
            outcome = batches_lines.outcome(row.id, requests, self._answers(row, requests))
        folder.append(outcome.output, outcome.errors)
        self._run.tally.add(outcome.output, outcome.errors)
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            _count(row, self._run.tally)
            if not requests and row.status == "in_progress":
                set_status(row, "finalizing")

    def _answers(self, row: Batch, requests: Sequence[PreparedLine]) -> list[AnswerOrError]:
        """The engine's answers to the requests that are fit for it."""
        planned = [request.planned for request in requests if request.planned is not None]
        if not planned or row.model is None:
            return []
        try:
            source = get_model(self._account, row.model)
            return self._dispatcher.submit(source, planned, bulk=True).result()
        except CancelledError:  # the server ends
            raise
        except ReviewtuneError as error:
            return [translation.unavailable(error)] * len(planned)
        except Exception as error:  # the model was deleted meanwhile, or is broken
            return [error] * len(planned)

    def _finish(self, row: Batch, folder: BatchFolder) -> None:
        """Publish what there is; files and final state appear together."""
        with self._account.database.writing() as session:
            row = get_batch(session, row.id)
            row.output_file_id = self._publish(session, row, folder.output)
            row.error_file_id = self._publish(session, row, folder.errors)
            late = row.status == "finalizing" and folder.tally().expired
            set_status(row, "cancelled" if row.status == "cancelling" else "expired" if late else "completed")
        shutil.rmtree(folder.path, ignore_errors=True)

    def _publish(self, session: Session, row: Batch, path: Path) -> str | None:
        if not path.exists() or not path.stat().st_size:
            return None
        name = f"{row.id}_{path.name}"
        copy = path.with_name(f"{path.name}.copy")  # a crash before the commit must not cost the original
        shutil.copyfile(path, copy)
        lifetime = OUTPUT_LIFETIME if row.output_lifetime is None else row.output_lifetime
        columns = {"id": f"file-{content_ids.digest(name)[:24]}", "expires_at": now() + lifetime}
        return add_file(self._account, session, copy, name=name, purpose="batch_output", **columns).id


def _count(row: Batch, tally: Tally) -> None:
    row.counts = row.counts | {"completed": tally.completed, "failed": tally.failed}
    row.usage = {
        "input_tokens": tally.prompt_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens},
        "output_tokens": tally.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tally.prompt_tokens + tally.completion_tokens,
    }
