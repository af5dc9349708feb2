"""Batches."""

import secrets

from openai.types import Batch as BatchObject
from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.local_server.batches.folder import BatchFolder
from reviewtune.local_server.batches.requests import BatchRequest
from reviewtune.local_server.files.service import file_path
from reviewtune.local_server.fine_tuning.service import link
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Batch, File, now

WINDOW = 24 * 3600
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def batch_object(row: Batch) -> BatchObject:
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
        **{f"{name}_at": row.times.get(f"{name}_at") for name in TIMES},
    )


def _new(body: BatchRequest) -> Batch:
    return Batch(
        id=new_batch_id(),
        created_at=now(),
        status="validating",
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        output_lifetime=body.output_expires_after and body.output_expires_after.seconds,
        labels=body.metadata,
        times={},
        counts={"total": 0, "completed": 0, "failed": 0},
    )


def _prepare_folder(account: Account, row: Batch, file: File) -> None:
    folder = BatchFolder(account.settings.batches / row.id)
    folder.path.mkdir()
    link(file_path(account, file), folder.input)


ACTIVE = ("cancelling", "finalizing", "in_progress", "validating")  # in the order of their turn


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(12)}"


def get_batch(session: Session, batch_id: str) -> Batch:
    row = session.scalar(select(Batch).where(Batch.id == batch_id))
    if row is None:
        raise ApiError(404, f"No batch found with id '{batch_id}'.", param="batch_id")
    return row


def set_status(row: Batch, status: str) -> None:
    """Move on to a state and note when; a new dict, as the old one would not be seen to change."""
    row.status = status
    row.times = row.times | {f"{status}_at": now()}
