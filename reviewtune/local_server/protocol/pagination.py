"""OpenAI's pagination: `after` is the last item of the previous page; the newest item comes first by default."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from openai import BaseModel
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.tables import Row

RowT = TypeVar("RowT", bound=Row)


class Cursor(NamedTuple):
    """Which page of a list a client wants."""

    after: str | None
    limit: int
    ascending: bool = False


def read_page(
    session: Session,
    table: type[RowT],
    cursor: Cursor,
    *conditions: ColumnElement[bool],
    keep: Callable[[RowT], bool] = lambda row: True,
) -> tuple[list[RowT], bool]:
    """One page of a table.

    Args:
        session: a transaction.
        table: what to list.
        cursor: the page.
        *conditions: SQL conditions on the rows.
        keep: a filter for what SQL cannot express.

    Returns:
        The rows, and whether more follow.

    Raises:
        ApiError: 400, there is no item `cursor.after`.
    """
    query = select(table).where(*conditions).order_by(table.seq if cursor.ascending else table.seq.desc())
    if cursor.after is not None:
        last = session.scalar(select(table.seq).where(table.id == cursor.after, *conditions))
        if last is None:
            raise ApiError(
                400, f"Invalid 'after': there is no item {cursor.after!r}.", param="after", code="invalid_value"
            )
        query = query.where(table.seq > last if cursor.ascending else table.seq < last)
    rows = session.scalars(query.execution_options(yield_per=500))
    page = list(islice(filter(keep, rows), cursor.limit + 1))
    return page[: cursor.limit], len(page) > cursor.limit


def listing(items: Sequence[BaseModel], has_more: bool, *, with_ends: bool = True) -> dict[str, Any]:
    """The list object around a page.

    Args:
        items: the page.
        has_more: whether more items follow.
        with_ends: whether to add `first_id` and `last_id`, which the lists of jobs and events lack.
    """
    data = [dump(item) for item in items]
    body: dict[str, Any] = {"object": "list", "data": data, "has_more": has_more}
    if with_ends:
        body |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return body


def dump(item: BaseModel) -> dict[str, Any]:
    """JSON of an object of the openai package; optional fields are null, as in the real API's answers."""
    return item.model_dump(mode="json", by_alias=True, warnings=False)
