"""The thread that runs jobs: checks their files, runs one trainer at a time, and records what it reports.

Everything it does has the same result when done twice, so a kill -9 of the server loses nothing: the next server reads
the trainer's progress again from the start and continues.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from reviewtune.local_server.fine_tuning import file_validation
from reviewtune.local_server.fine_tuning.job_folder import JobFolder, end_with_children
from reviewtune.local_server.fine_tuning.progress_reader import ProgressReader, fail_job
from reviewtune.local_server.fine_tuning.service import add_event, change_status, get_job
from reviewtune.local_server.models.service import ModelSource, find_model
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Job

TICK = 0.1  # seconds between two checks of a running trainer
RETRY = 2.0  # seconds after a check that failed, for example on a full disk
MAX_DEATHS = 3  # trainers that may end without a result before the job fails

log = logging.getLogger(__name__)


@dataclass
class TrainerHandle:
    """A job's trainer and its files. A trainer that an earlier server started has no process object."""

    job_id: str
    folder: JobFolder
    reader: ProgressReader
    process: subprocess.Popen[bytes] | None = None
    taken_over: bool = False

    @property
    def alive(self) -> bool:
        """Whether the trainer runs or is just starting."""
        return (self.process is not None and self.process.poll() is None) or self.folder.trainer_alive

    def end(self) -> None:
        """Stop the trainer, even if it is just starting."""
        if self.process is not None:  # our own child, whatever its files say
            end_with_children(self.process.pid)
            self.process.wait()
        self.folder.end_trainer()


class Scheduler(threading.Thread):
    """Runs the account's jobs in the order of their creation, one at a time."""

    def __init__(self, account: Account, expect: Callable[[ModelSource], None], free_gpu: Callable[[], None]) -> None:
        """Prepare the thread.

        Args:
            account: whose jobs it runs.
            expect: called with a finished model, so that it can be loaded before it is used.
            free_gpu: called before a training, which needs the memory that idle models take.
        """
        super().__init__(name="scheduler", daemon=True)
        self._account, self._expect, self._free_gpu = account, expect, free_gpu
        self._current: TrainerHandle | None = None
        self._closing = False

    def run(self) -> None:
        self._recover_safely()
        while not self._closing:
            self._account.jobs_changed.clear()
            if self._closing:  # `close` may have set the event just before it was cleared
                return
            pause = self._tick_safely()
            self._account.jobs_changed.wait(pause)

    def close(self) -> None:
        """Stop the trainer and put its job back in the queue; the next server starts it again."""
        self._closing = True
        self._account.jobs_changed.set()
        self.join()
        if self._current is not None:
            self._current.end()
            with self._account.database.writing() as session:
                change_status(session, self._current.job_id, ["running"], "queued")

    def _recover_safely(self) -> None:
        while not self._closing:
            try:
                self._recover()
            except Exception:
                log.exception("taking over the jobs of the last server failed; trying again in %g s", RETRY)
                self._account.jobs_changed.wait(RETRY)
            else:
                return

    def _recover(self) -> None:
        """Take over what a killed server left: the running job, and trainers of jobs stopped in the meantime."""
        with self._account.database.reading() as session:
            statuses: dict[str, str] = {job.id: job.status for job in session.scalars(select(Job))}
        for job_id, status in statuses.items():
            training = self._training(job_id)
            if status == "running":
                training.taken_over = True
                self._current = training
            elif status == "succeeded":
                training.folder.forget_start()
            elif training.folder.read("trainer.json") is not None:
                training.folder.end_trainer()
                training.reader.clean_up()

    def _training(self, job_id: str) -> TrainerHandle:
        folder = JobFolder(self._account.settings.jobs / job_id)
        return TrainerHandle(job_id, folder, ProgressReader(self._account, job_id, folder))

    def _tick_safely(self) -> float | None:
        """Check the jobs; returns the seconds until the next check, or None to wait for a change."""
        try:
            self._tick()
        except Exception:
            log.exception("checking the jobs failed; trying again in %g s", RETRY)
            return RETRY
        return TICK if self._current else None

    def _tick(self) -> None:
        if self._current is not None:
            self._follow(self._current)
        while not self._closing and (job_id := self._next("validating_files")):
            self._validate(job_id)
        while self._current is None and (job_id := self._next("queued")):
            self._start(job_id)

    def _next(self, status: str) -> str | None:
        with self._account.database.reading() as session:
            return session.scalar(select(Job.id).where(Job.status == status).order_by(Job.seq))

    def _validate(self, job_id: str) -> None:
        folder = JobFolder(self._account.settings.jobs / job_id)
        validation = folder.validation if folder.validation.exists() else None
        with self._account.database.writing() as session:
            job = get_job(session, job_id)
            names = f"training file: {job.training_file}"
            names += f" and validation file: {job.validation_file}" if job.validation_file else ""
            add_event(session, job_id, "validating", f"Validating {names}")
        try:
            fault = file_validation.check(folder.training, validation)
        except FileNotFoundError as error:
            fault = file_validation.FileFault(**_missing(error.filename))
        with self._account.database.writing() as session:
            if fault is not None:
                fail_job(session, job_id, fault.as_error(), "validating_files")
            elif change_status(session, job_id, ["validating_files"], "queued"):
                add_event(session, job_id, "validated", "Files validated, moving job to queued state")

    def _start(self, job_id: str) -> None:
        folder = self._account.settings.jobs / job_id
        if not folder.is_dir():
            with self._account.database.writing() as session:
                fail_job(session, job_id, _missing(folder), "queued")
            return
        with self._account.database.writing() as session:
            if not change_status(session, job_id, ["queued"], "running"):
                return
            add_event(session, job_id, "started", "Fine-tuning job started")
        self._free_gpu()
        self._current = training = self._training(job_id)
        command = [sys.executable, "-m", "reviewtune.local_server.fine_tuning.trainer", str(training.folder.path)]
        with training.folder.log.open("ab") as output:
            training.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _follow(self, training: TrainerHandle) -> None:
        alive = training.alive  # read first: a dead trainer writes nothing after this, so all its lines are recorded
        if (status := self._status(training.job_id)) is None:  # cancelled and deleted between two checks
            training.end()
            self._current = None
            return
        training.reader.record()
        if status != "running":
            training.end()
            training.reader.clean_up()
        elif alive:
            return
        else:
            self._conclude(training)
            training.reader.clean_up()
        self._current = None

    def _status(self, job_id: str) -> str | None:
        with self._account.database.reading() as session:
            return session.scalar(select(Job.status).where(Job.id == job_id))

    def _conclude(self, training: TrainerHandle) -> None:
        """Record how the trainer ended: with a model, with an error, or without a result."""
        result, error = training.folder.read("result.json"), training.folder.read("error.json")
        if result is not None:
            training.reader.succeed(result)
            self._announce(training.job_id)
            return
        with self._account.database.writing() as session:
            job = get_job(session, training.job_id)
            if not training.taken_over:  # one that was taken over may have ended with its server, which does not count
                job.deaths += 1
                session.flush()
            if error is not None:
                fail_job(session, job.id, error, "running")
            elif job.deaths >= MAX_DEATHS:
                message = f"The training process ended {MAX_DEATHS} times without a result; see {training.folder.log}."
                fail_job(session, job.id, {"code": "internal_error", "message": message, "param": None}, "running")
            elif change_status(session, job.id, ["running"], "queued"):
                message = "The training process ended without a result; starting it again"
                add_event(session, job.id, f"death:{time.time_ns()}", message, level="warn")

    def _announce(self, job_id: str) -> None:
        """Have the new model loaded, as its owner is likely to use it next; unless more jobs wait for the cores."""
        if self._next("queued") is not None:
            return
        with self._account.database.reading() as session:
            source = find_model(self._account, session, get_job(session, job_id).output_model)
        if source is not None:
            self._expect(source)


def _missing(what: object) -> dict[str, str]:
    """The error of a job whose files somebody removed."""
    message = f"The job's files were removed from the disk ({what}); create it again."
    return {"code": "file_missing", "message": message, "param": "training_file"}
