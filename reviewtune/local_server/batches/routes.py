"""The routes below /v1/batches, and how a batch looks to a client."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from openai.types import Batch as BatchObject

from reviewtune.local_server import files
from reviewtune.local_server.batches import runner
from reviewtune.local_server.batches.folder import BatchFolder
from reviewtune.local_server.fine_tuning.jobs import link
from reviewtune.local_server.protocol.api_errors import Refusal
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.protocol.request_schemas import BatchRequest
from reviewtune.local_server.storage.account import Account, Open
from reviewtune.local_server.storage.tables import Batch, File, now

WINDOW = 24 * 3600
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")

router = APIRouter(prefix="/v1/batches", tags=["batches"])


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


@router.post("")
def create(account: Open, body: BatchRequest) -> dict[str, Any]:
    with account.store.writing() as session:
        file = files.find(session, body.input_file_id)
        if file is None:
            raise Refusal(400, f"invalid input_file_id: {body.input_file_id}", param="input_file_id")
        if file.purpose != "batch":
            message = f"File '{file.id}' has purpose '{file.purpose}', but must have purpose 'batch'."
            raise Refusal(400, message, param="input_file_id", code="invalid_file_purpose")
        row = _new(body)
        _prepare_folder(account, row, file)
        session.add(row)
    account.batches_changed.set()
    return dump(batch_object(row))


def _new(body: BatchRequest) -> Batch:
    return Batch(
        id=runner.new_id(),
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
    link(files.path_of(account, file), folder.input)


@router.get("")
def list_(account: Open, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> dict[str, Any]:
    with account.store.reading() as session:
        rows, more = read_page(session, Batch, Cursor(after, limit))
    return listing([batch_object(row) for row in rows], more)


@router.get("/{batch_id}")
def retrieve(account: Open, batch_id: str) -> dict[str, Any]:
    with account.store.reading() as session:
        return dump(batch_object(runner.find(session, batch_id)))


@router.post("/{batch_id}/cancel")
def cancel(account: Open, batch_id: str) -> dict[str, Any]:
    """Ask for the end; what has been answered by then stays available."""
    with account.store.writing() as session:
        row = runner.find(session, batch_id)
        if row.status not in runner.ACTIVE:
            message = f"Batch {batch_id} is {row.status}; only a batch under way can be cancelled."
            raise Refusal(400, message, param="batch_id", code="invalid_batch_status")
        if row.status != "cancelling":
            runner.enter(row, "cancelling")
    account.batches_changed.set()
    return dump(batch_object(row))
