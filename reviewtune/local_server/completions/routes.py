"""The route /v1/completions: the continuations of one or several prompts, whole or as a stream of events."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from reviewtune.local_server.chat.routes import chat_service
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.streaming import EventResponse, unless_gone
from reviewtune.local_server.completions.requests import CompletionRequest
from reviewtune.local_server.completions.streaming import CompletionEvents, start
from reviewtune.local_server.completions.translation import body_of, completion, generation_requests, renamed
from reviewtune.local_server.models.service import ModelSource, get_model
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.account import CurrentAccount

router = APIRouter(prefix="/v1/completions", tags=["completions"])


@router.post("")
async def create(
    request: Request,
    account: CurrentAccount,
    service: Annotated[ChatService, Depends(chat_service)],
    body: CompletionRequest,
) -> Response:
    source = await run_in_threadpool(get_model, account, body.model)
    try:
        return await _answered(request, service, source, body)
    except ApiError as error:
        raise renamed(error) from error


async def _answered(request: Request, service: ChatService, source: ModelSource, body: CompletionRequest) -> Response:
    """The answer, or the stream of its events once its first piece is there: an error before is an ordinary one."""
    started = start(service, source, generation_requests(body), streamed=bool(body.stream))
    headers = service.admission.headers
    if body.stream:
        first = await started.first(request)
        return EventResponse(CompletionEvents(body, started).events(first), started.answer, headers=headers)
    results = await unless_gone(request, started.answer, started.answer)
    return JSONResponse(body_of(completion(body, results)), headers=headers)
