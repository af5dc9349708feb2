"""The routes below /v1/responses: create, look up, delete, and list the input."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from reviewtune.local_server.chat.routes import chat_service
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.streaming import EventResponse, start_answer, unless_gone
from reviewtune.local_server.models.service import get_model
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor
from reviewtune.local_server.responses.events import ResponseEvents
from reviewtune.local_server.responses.requests import ResponseRequest, TokenCountRequest
from reviewtune.local_server.responses.service import (
    delete_response,
    get_response,
    items_before,
    page_of_items,
    store,
)
from reviewtune.local_server.responses.translation import (
    Conversation,
    begin,
    counting_request,
    generation_request,
    output_of,
    renamed,
    response,
)
from reviewtune.local_server.storage.account import Account, CurrentAccount

router = APIRouter(prefix="/v1/responses", tags=["responses"])


@router.post("")
async def create(
    request: Request,
    account: CurrentAccount,
    service: Annotated[ChatService, Depends(chat_service)],
    body: ResponseRequest,
) -> Response:
    try:
        conversation = begin(body, await run_in_threadpool(items_before, account, body.previous_response_id))
        return await _answered(request, account, service, conversation)
    except ApiError as error:
        raise renamed(error) from error


async def _answered(request: Request, account: Account, service: ChatService, conversation: Conversation) -> Response:
    """The answer, or the stream of its events once its first piece is there: an error before is an ordinary one."""
    wanted = generation_request(conversation)
    source = await run_in_threadpool(get_model, account, conversation.request.model)
    started = start_answer(service, source, wanted, streamed=bool(conversation.request.stream))
    headers = service.admission.headers
    if conversation.request.stream:
        first = await started.first(request)
        stream = ResponseEvents(conversation, started.answer, started.pieces, partial(store, account, conversation))
        return EventResponse(stream.events(first), started.answer, headers=headers)
    result = await unless_gone(request, started.answer, started.answer)
    output = output_of(result.choices[0], with_logprobs=conversation.request.with_logprobs)
    whole = response(conversation, output, result)
    await run_in_threadpool(store, account, conversation, whole)
    return JSONResponse(whole, headers=service.admission.headers)


@router.post("/input_tokens")
async def count_input_tokens(
    request: Request,
    account: CurrentAccount,
    service: Annotated[ChatService, Depends(chat_service)],
    body: TokenCountRequest,
) -> dict[str, Any]:
    """How many tokens the input has with this model; nothing is answered."""
    try:
        earlier = await run_in_threadpool(items_before, account, body.previous_response_id)
        source = await run_in_threadpool(get_model, account, body.model)
        counted = start_answer(service, source, counting_request(body, earlier), streamed=False).answer
        result = await unless_gone(request, counted, counted)
    except ApiError as error:
        raise renamed(error) from error
    return {"object": "response.input_tokens", "input_tokens": result.prompt_tokens}


@router.get("/{response_id}")
def retrieve(account: CurrentAccount, response_id: str) -> dict[str, Any]:
    with account.database.reading() as session:
        return get_response(session, response_id).body


@router.delete("/{response_id}")
def delete(account: CurrentAccount, response_id: str) -> dict[str, Any]:
    delete_response(account, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/{response_id}/cancel")
def cancel(account: CurrentAccount, response_id: str) -> None:
    """Responses are complete when a client learns their id."""
    with account.database.reading() as session:
        get_response(session, response_id)
    raise ApiError(400, "Cannot cancel a synchronous response: only background responses can be cancelled.")


@router.get("/{response_id}/input_items")
def input_items(
    account: CurrentAccount,
    response_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    with account.database.reading() as session:
        items = get_response(session, response_id).input["items"]
    page, more = page_of_items(items, Cursor(after, limit, order == "asc"))
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": more, **ends}
