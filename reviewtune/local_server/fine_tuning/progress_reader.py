"""Reads a trainer's progress file and records it in the account: events, metrics, checkpoints and the final model."""

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from reviewtune.local_server.engine.types import RESUME
from reviewtune.local_server.files.service import add_file
from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from reviewtune.local_server.fine_tuning.service import add_event, change_status, get_job
from reviewtune.local_server.models.service import find_model
from reviewtune.local_server.storage import content_ids
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Checkpoint, Event, Job, Model, now

KEPT_CHECKPOINTS = 3  # as at OpenAI: one per epoch, of which the last three stay
SHOWN_LOSSES = {"train_loss": "training", "valid_loss": "validation", "full_valid_loss": "full validation"}
RESULT_COLUMNS = {  # column of the result file -> metric
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}


class ProgressReader:
    """Reads one job's progress file. Reading it again from the start has no effect."""

    def __init__(self, account: Account, job_id: str, folder: JobFolder) -> None:
        self._account = account
        self._job_id = job_id
        self._folder = folder
        self._offset = 0
        self._outdated: list[str] = []  # folders of checkpoints that are no longer kept
        self._first: tuple[float, int] | None = None  # time and number of this trainer's first step

    def record(self) -> None:
        """Record the lines that are new since the last call."""
        lines, offset = self._folder.progress(self._offset)
        if lines:
            with self._account.database.writing() as session:
                job = get_job(session, self._job_id)
                for line in lines:
                    self._record_line(session, job, line)
            self._remove_outdated()
        self._offset = offset

    def _record_line(self, session: Session, job: Job, line: Mapping[str, Any]) -> None:
        match line["kind"]:
            case "started":
                self._first = None
                self._add_unreported_checkpoints(session, job)
            case "message":
                add_event(session, job.id, line["key"], line["text"], level=line.get("level", "info"))
            case "hyperparameters":
                job.hyperparameters = {name: line[name] for name in job.hyperparameters}
            case "step":
                self._record_step(session, job, line["time"], line["metrics"])
            case "checkpoint":
                self._record_checkpoint(session, job, line)

    def _record_step(self, session: Session, job: Job, when: float, metrics: dict[str, Any]) -> None:
        step, total = metrics["step"], metrics["total_steps"]
        data = _numbers(metrics)
        losses = [f"{name} loss={data[key]:.2f}" for key, name in SHOWN_LOSSES.items() if key in data]
        message = f"Step {step}/{total}: {', '.join(losses)}"
        add_event(session, job.id, f"step:{step}", message, type_="metrics", data=data)
        if self._first is None:
            self._first = (when, step)
        elif step > self._first[1]:
            seconds_a_step = (when - self._first[0]) / (step - self._first[1])
            job.estimated_finish = math.ceil(when + (total - step) * seconds_a_step)

    def _record_checkpoint(self, session: Session, job: Job, line: Mapping[str, Any]) -> None:
        """Record a checkpoint, which is a usable model at once, and forget those that are no longer kept.

        One that is not newer than those on record is read again, after a restart: it is known, or was forgotten.
        """
        step = line["metrics"]["step"]
        newest_known = session.scalar(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job.id))
        if newest_known is not None and step <= newest_known:
            return
        name = content_ids.checkpoint_name(job.output_model, step)
        metrics = {key: value for key, value in _numbers(line["metrics"]).items() if key != "total_steps"}
        session.add(
            Checkpoint(
                id=f"ftckpt_{content_ids.digest(job.id, step)[:24]}",
                created_at=now(),
                job_id=job.id,
                step=step,
                model=name,
                metrics=metrics,
            )
        )
        session.flush()
        job.deaths = 0  # a trainer that makes progress starts with a full number of attempts
        self._add_model(session, job, name, Path(line["folder"]))
        add_event(session, job.id, f"checkpoint:{step}", f"Checkpoint created at step {step}: {name}")
        newest = select(Checkpoint.step).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step.desc())
        for old in session.scalars(newest.offset(KEPT_CHECKPOINTS)).all():
            name = content_ids.checkpoint_name(job.output_model, old)
            self._outdated += session.scalars(select(Model.folder).where(Model.id == name))
            session.execute(delete(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == old))
            session.execute(delete(Model).where(Model.id == name))

    def _add_model(self, session: Session, job: Job, name: str, folder: Path) -> None:
        models = self._account.settings.models
        model = {
            "id": name,
            "created_at": now(),
            "base": self._first_base(session, job),
            "folder": folder.relative_to(models).as_posix(),
            "job_id": job.id,
        }
        session.execute(sqlite.insert(Model).values(model).on_conflict_do_nothing())

    def _first_base(self, session: Session, job: Job) -> str:
        """The base model at the beginning of a chain of fine-tunes, also if the fine-tune before was deleted."""
        order = self._folder.read("spec.json") or {}
        if "first_base" in order:
            return str(order["first_base"])
        source = find_model(self._account, session, job.model)  # a job of an earlier release
        return source.base if source else job.model

    def _remove_outdated(self) -> None:
        """Remove the folders of checkpoints that the account no longer lists."""
        while self._outdated:
            shutil.rmtree(self._account.settings.models / self._outdated.pop(), ignore_errors=True)

    def succeed(self, result: Mapping[str, Any]) -> None:
        """Record the finished model, the result file and the final status in one step, unless the job was cancelled."""
        # Before the commit, because a kill after it would leave this file for ever.
        (self._models / RESUME).unlink(missing_ok=True)
        with self._account.database.writing() as session:
            job = get_job(session, self._job_id)
            numbers = {"trained_tokens": result["trained_tokens"], "hyperparameters": result["hyperparameters"]}
            results = f"file-{content_ids.digest(job.id, 'results')[:24]}"
            if not change_status(session, job.id, ["running"], "succeeded", result_files=[results], **numbers):
                return
            self._add_unreported_checkpoints(session, job)
            table = self._folder.path / "step_metrics.csv"
            _write_results(session, job.id, table)
            add_file(self._account, session, table, name=table.name, purpose="fine-tune-results", id=results)
            self._add_model(session, job, job.output_model, Path(result["folder"]))
            add_event(session, job.id, "model", f"New fine-tuned model created: {job.output_model}")
            add_event(session, job.id, "completed", "The job has successfully completed")

    def _add_unreported_checkpoints(self, session: Session, job: Job) -> None:
        """Record checkpoints on disk that were not reported: a trainer killed before the report does not repeat it."""
        steps = [int(folder.name.removeprefix("step-")) for folder in self._checkpoints.glob("step-*")]
        for step in sorted(steps):
            event = session.scalar(select(Event).where(Event.job_id == job.id, Event.key == f"step:{step}"))
            if event is not None:
                folder = self._checkpoints / f"step-{step}"
                self._record_checkpoint(session, job, {"metrics": event.data, "folder": str(folder)})

    def clean_up(self) -> None:
        """Remove what only the training needed.

        Of a job that failed or was cancelled only its checkpoints are kept; the state to resume from is larger.
        """
        with self._account.database.writing() as session:
            job = get_job(session, self._job_id)
            if job.status not in ("succeeded", "cancelled", "failed"):
                return
            self._folder.forget_start()
            if job.status == "succeeded":
                return
            self._add_unreported_checkpoints(session, job)
        for entry in self._models.glob("*"):
            if entry.is_file():
                entry.unlink()
        for incomplete in self._checkpoints.glob(".*"):
            shutil.rmtree(incomplete, ignore_errors=True)

    @property
    def _models(self) -> Path:
        return self._account.settings.models / self._job_id

    @property
    def _checkpoints(self) -> Path:
        return self._models / "checkpoints"


def fail_job(session: Session, job_id: str, error: dict[str, Any], before: str) -> None:
    """End a job with an error, if its status is still `before`."""
    if change_status(session, job_id, [before], "failed", error=error):
        add_event(session, job_id, "failed", error["message"], level="error")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with a value that JSON can represent; a diverged loss is not finite."""
    present = {key: value for key, value in metrics.items() if key != "epoch" and value is not None}
    return {key: value for key, value in present.items() if math.isfinite(value)}


def _write_results(session: Session, job_id: str, path: Path) -> None:
    steps = select(Event.data).where(Event.job_id == job_id, Event.type == "metrics").order_by(Event.seq)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(RESULT_COLUMNS)
        for data in session.scalars(steps):
            table.writerow([data.get(metric, "") for metric in RESULT_COLUMNS.values()])
