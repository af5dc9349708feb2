"""The routes below /v1/batches: create, list, look up and cancel."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from reviewtune.local_server.batches.requests import BatchRequest
from reviewtune.local_server.batches.service import batch_object, cancel_batch, create_batch, get_batch
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.storage.account import CurrentAccount
from reviewtune.local_server.storage.tables import Batch

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("")
def create(account: CurrentAccount, body: BatchRequest) -> dict[str, Any]:
    with account.database.writing() as session:
        row = create_batch(account, session, body)
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
    """Stop a batch; answers until then stay available."""
    with account.database.writing() as session:
        row = cancel_batch(session, batch_id)
    account.batches_changed.set()
    return dump(batch_object(row))
