"""What a trainer reports, written into the account: events, metrics, checkpoints, and in the end the model."""

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
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

KEPT_CHECKPOINTS = 3  # as OpenAI: one an epoch, the last three
SHOWN_LOSSES = {"train_loss": "training", "valid_loss": "validation", "full_valid_loss": "full validation"}
RESULT_COLUMNS = {  # of the result file: its name for a metric
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}


class ProgressReader:
    """Follows one job's progress file. Reading it again from the start changes nothing."""

    def __init__(self, account: Account, job_id: str, folder: JobFolder) -> None:
        self._account = account
        self._job_id = job_id
        self._folder = folder
        self._offset = 0
        self._outdated: list[str] = []  # folders of checkpoints beyond the kept ones
        self._first: tuple[float, int] | None = None  # time and step at which this trainer began to step

    def record(self) -> None:
        """Take in the lines since the last look."""
        lines, offset = self._folder.progress(self._offset)
        if lines:
            with self._account.database.writing() as session:
                job = get_job(session, self._job_id)
                for line in lines:
                    self._take(session, job, line)
            self._sweep()
        self._offset = offset

    def _take(self, session: Session, job: Job, line: Mapping[str, Any]) -> None:
        match line["kind"]:
            case "started":
                self._first = None
                self._add_unreported_checkpoints(session, job)
            case "message":
                add_event(session, job.id, line["key"], line["text"])
            case "hyperparameters":
                job.hyperparameters = {name: line[name] for name in job.hyperparameters}
            case "step":
                self._take_step(session, job, line["time"], line["metrics"])
            case "checkpoint":
                self._take_checkpoint(session, job, line)

    def _take_step(self, session: Session, job: Job, when: float, metrics: dict[str, Any]) -> None:
        step, total = metrics["step"], metrics["total_steps"]
        data = _numbers(metrics)
        losses = [f"{name} loss={data[key]:.2f}" for key, name in SHOWN_LOSSES.items() if key in data]
        message = f"Step {step}/{total}: {', '.join(losses)}"
        add_event(session, job.id, f"step:{step}", message, type_="metrics", data=data)
        if self._first is None:
            self._first = (when, step)
        elif step > self._first[1]:
            pace = (when - self._first[0]) / (step - self._first[1])
            job.estimated_finish = math.ceil(when + (total - step) * pace)

    def _take_checkpoint(self, session: Session, job: Job, line: Mapping[str, Any]) -> None:
        """A new checkpoint is a model at once; the oldest beyond the kept ones goes."""
        step = line["metrics"]["step"]
        name = content_ids.checkpoint_name(job.output_model, step)
        metrics = {key: value for key, value in _numbers(line["metrics"]).items() if key != "total_steps"}
        checkpoint = {
            "id": f"ftckpt_{content_ids.digest(job.id, step)[:24]}",
            "created_at": now(),
            "job_id": job.id,
            "step": step,
            "model": name,
            "metrics": metrics,
        }
        added = sqlite.insert(Checkpoint).values(checkpoint).on_conflict_do_nothing()
        if session.connection().execute(added).rowcount:
            job.deaths = 0  # a trainer that gets somewhere is no hopeless one
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
        source = find_model(self._account, session, job.model)
        model = {
            "id": name,
            "created_at": now(),
            "base": source.base if source else job.model,
            "folder": folder.relative_to(models).as_posix(),
            "job_id": job.id,
        }
        session.execute(sqlite.insert(Model).values(model).on_conflict_do_nothing())

    def _sweep(self) -> None:
        """Remove the folders of checkpoints that the account no longer lists."""
        while self._outdated:
            shutil.rmtree(self._account.settings.models / self._outdated.pop(), ignore_errors=True)

    def succeed(self, result: Mapping[str, Any]) -> None:
        """Model, result file and final state appear together, and only if nobody has cancelled the job."""
        (self._models / RESUME).unlink(missing_ok=True)  # first: a kill after the commit would leave it for ever
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
        """A trainer killed between saving and saying so goes on without saying it again."""
        steps = [int(folder.name.removeprefix("step-")) for folder in self._checkpoints.glob("step-*")]
        for step in sorted(steps):
            event = session.scalar(select(Event).where(Event.job_id == job.id, Event.key == f"step:{step}"))
            if event is not None:
                folder = self._checkpoints / f"step-{step}"
                self._take_checkpoint(session, job, {"metrics": event.data, "folder": str(folder)})

    def tidy(self) -> None:
        """After a bad end, only the checkpoints are of use; what the trainer needs to go on is larger than they are."""
        with self._account.database.writing() as session:
            job = get_job(session, self._job_id)
            if job.status not in ("cancelled", "failed"):
                return
            self._add_unreported_checkpoints(session, job)
        for entry in self._models.glob("*"):
            if entry.is_file():
                entry.unlink()
        for half_made in self._checkpoints.glob(".*"):
            shutil.rmtree(half_made, ignore_errors=True)

    @property
    def _models(self) -> Path:
        return self._account.settings.models / self._job_id

    @property
    def _checkpoints(self) -> Path:
        return self._models / "checkpoints"


def fail(session: Session, job_id: str, error: dict[str, Any], before: str) -> None:
    if change_status(session, job_id, [before], "failed", error=error):
        add_event(session, job_id, "failed", error["message"], level="error")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that have a value which JSON can carry; a diverged loss has none."""
    measured = {key: value for key, value in metrics.items() if key != "epoch" and value is not None}
    return {key: value for key, value in measured.items() if math.isfinite(value)}


def _write_results(session: Session, job_id: str, path: Path) -> None:
    steps = select(Event.data).where(Event.job_id == job_id, Event.type == "metrics").order_by(Event.seq)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(RESULT_COLUMNS)
        for data in session.scalars(steps):
            table.writerow([data.get(metric, "") for metric in RESULT_COLUMNS.values()])
