"""Fine-tuning jobs: how one is created and deleted, how it changes its status, and what the API shows of it."""

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.fine_tuning.jobs.fine_tuning_job_checkpoint import Metrics
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from reviewtune.local_server.files.service import file_path, find_file, link_file
from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from reviewtune.local_server.fine_tuning.requests import JobRequest
from reviewtune.local_server.models.service import ModelSource, find_model, link_model
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.middleware import ORGANIZATION
from reviewtune.local_server.storage import content_ids
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Checkpoint, Event, File, Job, Model, now

ACTIVE = ("validating_files", "queued", "running")  # the scheduler has work to do
ENDED = ("succeeded", "failed", "cancelled")


def job_object(row: Job) -> FineTuningJob:
    """The job as the API shows it."""
    return FineTuningJob.construct(
        id=row.id,
        object="fine_tuning.job",
        created_at=row.created_at,
        finished_at=row.finished_at,
        model=row.model,
        fine_tuned_model=row.output_model if row.status == "succeeded" else None,
        organization_id=ORGANIZATION,
        status=row.status,
        hyperparameters=row.hyperparameters,
        method={"type": "supervised", "supervised": {"hyperparameters": row.hyperparameters}},
        training_file=row.training_file,
        validation_file=row.validation_file,
        result_files=row.result_files,
        trained_tokens=row.trained_tokens,
        error=row.error,
        seed=row.seed,
        estimated_finish=row.estimated_finish if row.status == "running" else None,
        integrations=[],
        metadata=row.labels,
        user_provided_suffix=row.suffix,
    )


def event_object(row: Event) -> FineTuningJobEvent:
    """An event of a job as the API shows it."""
    return FineTuningJobEvent.construct(
        id=row.id,
        object="fine_tuning.job.event",
        created_at=row.created_at,
        level=row.level,
        message=row.message,
        type=row.type,
        data=row.data,
    )


def checkpoint_object(row: Checkpoint) -> FineTuningJobCheckpoint:
    """A checkpoint of a job as the API shows it."""
    return FineTuningJobCheckpoint(
        id=row.id,
        object="fine_tuning.job.checkpoint",
        created_at=row.created_at,
        fine_tuned_model_checkpoint=row.model,
        fine_tuning_job_id=row.job_id,
        metrics=Metrics(**row.metrics),
        step_number=row.step,
    )


def has_active_job(session: Session) -> bool:
    """Whether the scheduler still has work to do."""
    return session.scalar(select(Job.id).where(Job.status.in_(ACTIVE))) is not None


def get_job(session: Session, job_id: str) -> Job:
    """The job.

    Raises:
        ApiError: 404, there is no such job.
    """
    job = session.scalar(select(Job).where(Job.id == job_id))
    if job is None:
        message = f"Could not find fine tune: {job_id}"
        raise ApiError(404, message, param="fine_tune_id", code="fine_tune_not_found")
    return job


def create_job(account: Account, session: Session, request: JobRequest, idempotency_key: str | None) -> Job:
    """Create a job, or return the one that the same request has created before.

    Args:
        account: the account that gets the job.
        session: an open transaction.
        request: what to train.
        idempotency_key: equal keys mean the same request, sent again.

    Raises:
        ApiError: 400, a file or the model cannot be used, or the key belongs to another request.
    """
    request_sha256 = content_ids.digest(request.model_dump())
    if idempotency_key and (earlier := session.scalar(select(Job).where(Job.idempotency_key == idempotency_key))):
        if earlier.request_sha256 != request_sha256:
            message = "This Idempotency-Key has been used with another request."
            raise ApiError(400, message, param="Idempotency-Key", code="idempotency_key_reused")
        return earlier
    source = find_model(account, session, request.model)
    if source is None:
        message = f"The model '{request.model}' is not available for fine-tuning or does not exist."
        raise ApiError(400, message, param="model", code="model_not_available")
    training = _chat_file(session, request.training_file, "training_file")
    validation = request.validation_file and _chat_file(session, request.validation_file, "validation_file")
    base = request.model if request.model in account.settings.aliases else source.base  # clients look for it
    job = _new_row(session, request, training, validation or None, base)
    job.idempotency_key, job.request_sha256 = idempotency_key, request_sha256
    _prepare_folder(account, job, training, validation or None, source)
    session.add(job)
    session.flush()
    add_event(session, job.id, "created", f"Created fine-tuning job: {job.id}")
    return job


def _chat_file(session: Session, file_id: str, param: str) -> File:
    file = find_file(session, file_id)
    if file is None:
        raise ApiError(400, f"invalid {param}: {file_id}", param=param)
    if file.purpose != "fine-tune":
        message = f"File '{file_id}' has purpose '{file.purpose}', but must have purpose 'fine-tune'."
        raise ApiError(400, message, param=param, code="invalid_file_purpose")
    return file


def _new_row(session: Session, request: JobRequest, training: File, validation: File | None, base: str) -> Job:
    hyperparameters = request.requested_hyperparameters.model_dump()
    content = [training.sha256, validation and validation.sha256, request.model, hyperparameters, request.suffix]
    key = content_ids.digest(content, request.seed)
    used_ids = session.scalars(select(Job.id).where(Job.content_key == key)).all()
    candidates = (content_ids.job_id(key, ordinal) for ordinal in range(len(used_ids) + 1))
    job_id = next(name for name in candidates if name not in used_ids)  # an earlier job may have been deleted
    return Job(
        id=job_id,
        created_at=now(),
        status="validating_files",
        content_key=key,
        model=request.model,
        output_model=content_ids.model_name(base, request.suffix, job_id),
        training_file=training.id,
        validation_file=validation.id if validation else None,
        suffix=request.suffix,
        seed=request.seed if request.seed is not None else content_ids.seed_of(key),
        hyperparameters=hyperparameters,
        labels=request.metadata,
        result_files=[],
    )


def _prepare_folder(account: Account, job: Job, training: File, validation: File | None, source: ModelSource) -> None:
    """Write what the trainer needs, with the job's own hold on its files."""
    path = account.settings.jobs / job.id
    shutil.rmtree(path, ignore_errors=True)  # left by a creation that was cut off before its row was written
    path.mkdir()
    folder = JobFolder(path)
    link_file(account, training, folder.training)
    if validation:
        link_file(account, validation, folder.validation)
    if source.folder:
        link_model(source.folder, folder.start)
    spec = {
        "base": source.name,
        "folder": str(folder.start) if source.folder else None,
        "first_base": source.base,
        "is_adapter": source.is_adapter,
        "cache": str(account.settings.cache_dir),
        "output": str(account.settings.models / job.id),
        "seed": job.seed,
        "hyperparameters": job.hyperparameters,
    }
    folder.write("spec.json", spec)


def delete_job(account: Account, session: Session, job: Job) -> list[Path]:
    """Remove an ended job, its events and its result files from the database.

    A later job with the same content gets its id.

    Returns:
        Its folders and files, which the caller removes after the commit.

    Raises:
        ApiError: 400, the job has not ended, or its models still exist.
    """
    folder = JobFolder(account.settings.jobs / job.id)
    if job.status not in ENDED or folder.trainer_alive:
        message = f"Job {job.id} is {job.status}; only a job that has ended can be deleted."
        raise ApiError(400, message, param="fine_tune_id", code="invalid_job_status")
    if model := session.scalar(select(Model.id).where(Model.job_id == job.id)):
        message = f"Job {job.id} made the model '{model}'; delete it first."
        raise ApiError(400, message, param="fine_tune_id", code="job_has_models")
    results = session.scalars(select(File).where(File.id.in_(job.result_files))).all()
    for table in (Event, Checkpoint):
        session.execute(delete(table).where(table.job_id == job.id))
    for row in (*results, job):
        session.delete(row)
    return [folder.path, account.settings.models / job.id, *(file_path(account, file) for file in results)]


def change_status(session: Session, job_id: str, before: Collection[str], after: str, **changes: object) -> bool:
    """Change a job's status, but only from one of the given statuses, so that of two callers only one succeeds.

    Args:
        session: an open transaction.
        job_id: the job.
        before: the statuses it may have now.
        after: the status it gets.
        **changes: other columns to set.

    Returns:
        Whether the status was changed.
    """
    if after in ENDED:
        changes |= {"finished_at": now(), "estimated_finish": None}
    change = update(Job).where(Job.id == job_id, Job.status.in_(before)).values(status=after, **changes)
    return session.connection().execute(change).rowcount == 1


def add_event(
    session: Session,
    job_id: str,
    key: str,
    message: str,
    *,
    level: str = "info",
    type_: str = "message",
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event, unless the job has one with this key."""
    event = sqlite.insert(Event).values(
        id=f"ftevent-{hashlib.sha256(f'{job_id} {key}'.encode()).hexdigest()[:24]}",
        job_id=job_id,
        key=key,
        created_at=now(),
        level=level,
        message=message,
        type=type_,
        data=data or {},
    )
    session.execute(event.on_conflict_do_nothing())
