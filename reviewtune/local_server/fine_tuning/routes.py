"""The routes below /v1/fine_tuning/jobs: create, list, look up, cancel, pause, resume, delete, events, checkpoints."""

import shutil
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request

from reviewtune.local_server.fine_tuning.requests import JobRequest
from reviewtune.local_server.fine_tuning.service import (
    ACTIVE,
    add_event,
    change_status,
    checkpoint_object,
    create_job,
    delete_job,
    event_object,
    get_job,
    job_object,
)
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.storage.account import Account, CurrentAccount
from reviewtune.local_server.storage.tables import Checkpoint, Event, Job

Limit = Annotated[int, Query(ge=1, le=100)]
EventLimit = Annotated[int, Query(ge=1, le=1000)]

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])


@router.post("")
def create(
    account: CurrentAccount, body: JobRequest, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
) -> dict[str, Any]:
    with account.database.writing() as session:
        job = create_job(account, session, body, idempotency_key)
    account.jobs_changed.set()
    return dump(job_object(job))


@router.get("")
def list_(
    account: CurrentAccount,
    request: Request,
    after: str | None = None,
    limit: Limit = 20,
    metadata: Literal["null"] | None = None,
) -> dict[str, Any]:
    labels = {key[9:-1]: value for key, value in request.query_params.items() if key.startswith("metadata[")}
    without_labels = metadata is not None

    def keep(job: Job) -> bool:
        own = job.labels or {}
        return not (without_labels and own) and labels.items() <= own.items()

    with account.database.reading() as session:
        rows, more = read_page(session, Job, Cursor(after, limit), keep=keep)
    return listing([job_object(row) for row in rows], more, with_ends=False)


@router.get("/{job_id}")
def retrieve(account: CurrentAccount, job_id: str) -> dict[str, Any]:
    with account.database.reading() as session:
        return dump(job_object(get_job(session, job_id)))


@router.delete("/{job_id}")
def remove(account: CurrentAccount, job_id: str) -> dict[str, Any]:
    """Delete a job. OpenAI keeps every job for ever; here that would fill the user's disk."""
    with account.database.writing() as session:
        leftovers = delete_job(account, session, get_job(session, job_id))
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return {"id": job_id, "object": "fine_tuning.job", "deleted": True}


@router.post("/{job_id}/cancel")
def cancel(account: CurrentAccount, job_id: str) -> dict[str, Any]:
    return _change_status(account, job_id, (*ACTIVE, "paused"), "cancelled")


@router.post("/{job_id}/pause")
def pause(account: CurrentAccount, job_id: str) -> dict[str, Any]:
    return _change_status(account, job_id, ("queued", "running"), "paused")


@router.post("/{job_id}/resume")
def resume(account: CurrentAccount, job_id: str) -> dict[str, Any]:
    return _change_status(account, job_id, ("paused",), "queued")


def _change_status(account: Account, job_id: str, before: tuple[str, ...], after: str) -> dict[str, Any]:
    """Change the status for a client; the scheduler sees it and acts."""
    with account.database.writing() as session:
        status = get_job(session, job_id).status
        session.expire_all()
        if not change_status(session, job_id, before, after):
            message = f"Job {job_id} is {status}; only a job that is {' or '.join(before)} can become {after}."
            raise ApiError(400, message, param="fine_tune_id", code="invalid_job_status")
        add_event(session, job_id, f"{after}:{time.time_ns()}", f"The job is {after} on request")
        job = get_job(session, job_id)
    account.jobs_changed.set()
    return dump(job_object(job))


@router.get("/{job_id}/events")
def events(account: CurrentAccount, job_id: str, after: str | None = None, limit: EventLimit = 20) -> dict[str, Any]:
    with account.database.reading() as session:
        get_job(session, job_id)
        rows, more = read_page(session, Event, Cursor(after, limit), Event.job_id == job_id)
    return listing([event_object(row) for row in rows], more, with_ends=False)


@router.get("/{job_id}/checkpoints")
def checkpoints(account: CurrentAccount, job_id: str, after: str | None = None, limit: Limit = 10) -> dict[str, Any]:
    with account.database.reading() as session:
        get_job(session, job_id)
        rows, more = read_page(session, Checkpoint, Cursor(after, limit), Checkpoint.job_id == job_id)
    return listing([checkpoint_object(row) for row in rows], more)
