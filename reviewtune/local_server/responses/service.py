"""Stored responses: they are kept in the account for 30 days, as at OpenAI, unless the request says `store: false`."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor
from reviewtune.local_server.responses.items import Item
from reviewtune.local_server.responses.translation import Conversation, Response
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import StoredResponse, now

LIFETIME = 30 * 24 * 3600  # seconds


def forget_old(account: Account) -> None:
    """Delete the responses whose time is over."""
    with account.database.writing() as session:
        session.execute(delete(StoredResponse).where(StoredResponse.created_at < now() - LIFETIME))


def store(account: Account, conversation: Conversation, response: Response) -> None:
    """Keep a response with its input, if the client wants that."""
    if not conversation.is_stored:
        return
    row = StoredResponse(
        id=conversation.id,
        created_at=conversation.created_at,
        body=response,
        input={"items": list(conversation.items)},
    )
    with account.database.writing() as session:
        session.add(row)


def get_response(session: Session, response_id: str) -> StoredResponse:
    """A stored response.

    Raises:
        ApiError: 404, there is none of this id.
    """
    row = _find(session, response_id)
    if row is None:
        raise ApiError(404, f"Response with id '{response_id}' not found.", param="response_id")
    return row


def delete_response(account: Account, response_id: str) -> None:
    """Delete a response; later ones keep their own copy of the conversation.

    Raises:
        ApiError: 404, there is none of this id.
    """
    with account.database.writing() as session:
        session.delete(get_response(session, response_id))


def items_before(account: Account, response_id: str | None) -> Sequence[Item]:
    """The conversation up to and with a response.

    Raises:
        ApiError: 400, there is none of this id.
    """
    if response_id is None:
        return ()
    with account.database.reading() as session:
        row = _find(session, response_id)
    if row is None:
        message = f"Previous response with id '{response_id}' not found."
        raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
    return (*row.input["items"], *row.body["output"])


def page_of_items(items: Sequence[Item], cursor: Cursor) -> tuple[list[Item], bool]:
    """One page of a response's input items, and whether more follow.

    Raises:
        ApiError: 400, there is no item `cursor.after`.
    """
    ordered = list(items if cursor.ascending else reversed(items))
    ids = [item["id"] for item in ordered]
    if cursor.after is not None and cursor.after not in ids:
        message = f"Invalid 'after': there is no item {cursor.after!r}."
        raise ApiError(400, message, param="after", code="invalid_value")
    begin = 0 if cursor.after is None else ids.index(cursor.after) + 1
    return ordered[begin : begin + cursor.limit], len(ordered) > begin + cursor.limit


def _find(session: Session, response_id: str) -> StoredResponse | None:
    kept = StoredResponse.created_at >= now() - LIFETIME  # older ones leave the disk when the server starts
    return session.scalar(select(StoredResponse).where(StoredResponse.id == response_id, kept))
