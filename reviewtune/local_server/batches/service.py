"""Batches: how one is created and cancelled, how it changes its status, and what the API shows of it."""

import secrets

from openai.types import Batch as BatchObject
from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.local_server.batches.folder import BatchFolder
from reviewtune.local_server.batches.requests import BatchRequest
from reviewtune.local_server.files.service import find_file, link_file
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Batch, File, now

WINDOW = 24 * 3600  # seconds in which a batch must be answered
STATUS_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
ACTIVE = ("cancelling", "finalizing", "in_progress", "validating")  # in the order in which they are worked on


def batch_object(row: Batch) -> BatchObject:
    """The batch as the API shows it."""
    return BatchObject.construct(
        id=row.id,
        object="batch",
        endpoint=row.endpoint,
        model=row.model,
        errors=row.errors,
        input_file_id=row.input_file_id,
        completion_window="24h",
        status=row.status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=row.created_at,
        expires_at=row.created_at + WINDOW,
        request_counts=row.counts,
        usage=row.usage,
        metadata=row.labels,
        **{f"{status}_at": row.times.get(f"{status}_at") for status in STATUS_TIMES},
    )


def get_batch(session: Session, batch_id: str) -> Batch:
    """The batch.

    Raises:
        ApiError: 404, there is no such batch.
    """
    row = session.scalar(select(Batch).where(Batch.id == batch_id))
    if row is None:
        raise ApiError(404, f"No batch found with id '{batch_id}'.", param="batch_id")
    return row


def has_active_batch(session: Session) -> bool:
    """Whether a batch still has work to do."""
    return session.scalar(select(Batch.id).where(Batch.status.in_(ACTIVE))) is not None


def set_status(row: Batch, status: str) -> None:
    """Change the status and note the time."""
    row.status = status
    row.times = row.times | {f"{status}_at": now()}  # a new dict: SQLAlchemy does not notice changes inside the old one


def create_batch(account: Account, session: Session, request: BatchRequest) -> Batch:
    """Record a batch and give it its own hold on its input.

    Raises:
        ApiError: 400, the input file does not exist or is not for batches.
    """
    file = find_file(session, request.input_file_id)
    if file is None:
        raise ApiError(400, f"invalid input_file_id: {request.input_file_id}", param="input_file_id")
    if file.purpose != "batch":
        message = f"File '{file.id}' has purpose '{file.purpose}', but must have purpose 'batch'."
        raise ApiError(400, message, param="input_file_id", code="invalid_file_purpose")
    row = _new_row(request)
    _prepare_folder(account, row, file)
    session.add(row)
    return row


def cancel_batch(session: Session, batch_id: str) -> Batch:
    """Ask the runner to stop; answers until then stay available.

    Raises:
        ApiError: there is no such batch (404), or it has ended (400).
    """
    row = get_batch(session, batch_id)
    if row.status not in ACTIVE:
        message = f"Batch {batch_id} is {row.status}; only a batch under way can be cancelled."
        raise ApiError(400, message, param="batch_id", code="invalid_batch_status")
    if row.status != "cancelling":
        set_status(row, "cancelling")
    return row


def _new_row(request: BatchRequest) -> Batch:
    return Batch(
        id=f"batch_{secrets.token_hex(12)}",
        created_at=now(),
        status="validating",
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        output_lifetime=request.output_expires_after and request.output_expires_after.seconds,
        labels=request.metadata,
        times={},
        counts={"total": 0, "completed": 0, "failed": 0},
    )


def _prepare_folder(account: Account, row: Batch, file: File) -> None:
    folder = BatchFolder(account.settings.batches / row.id)
    folder.path.mkdir()
    link_file(account, file, folder.input)
