"""The routes below /v1/batches, and how a batch looks to a client."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from reviewtune.local_server.batches.requests import BatchRequest
from reviewtune.local_server.batches.service import ACTIVE, _new, _prepare_folder, batch_object, get_batch, set_status
from reviewtune.local_server.files.service import find_file
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.storage.account import CurrentAccount
from reviewtune.local_server.storage.tables import Batch

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("")
def create(account: CurrentAccount, body: BatchRequest) -> dict[str, Any]:
    with account.database.writing() as session:
        file = find_file(session, body.input_file_id)
        if file is None:
            raise ApiError(400, f"invalid input_file_id: {body.input_file_id}", param="input_file_id")
        if file.purpose != "batch":
            message = f"File '{file.id}' has purpose '{file.purpose}', but must have purpose 'batch'."
            raise ApiError(400, message, param="input_file_id", code="invalid_file_purpose")
        row = _new(body)
        _prepare_folder(account, row, file)
        session.add(row)
    account.batches_changed.set()
    return dump(batch_object(row))


@router.get("")
def list_(
    account: CurrentAccount, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, Any]:
    with account.database.reading() as session:
        rows, more = read_page(session, Batch, Cursor(after, limit))
    return listing([batch_object(row) for row in rows], more)


@router.get("/{batch_id}")
def retrieve(account: CurrentAccount, batch_id: str) -> dict[str, Any]:
    with account.database.reading() as session:
        return dump(batch_object(get_batch(session, batch_id)))


@router.post("/{batch_id}/cancel")
def cancel(account: CurrentAccount, batch_id: str) -> dict[str, Any]:
    """Ask for the end; what has been answered by then stays available."""
    with account.database.writing() as session:
        row = get_batch(session, batch_id)
        if row.status not in ACTIVE:
            message = f"Batch {batch_id} is {row.status}; only a batch under way can be cancelled."
            raise ApiError(400, message, param="batch_id", code="invalid_batch_status")
        if row.status != "cancelling":
            set_status(row, "cancelling")
    account.batches_changed.set()
    return dump(batch_object(row))
