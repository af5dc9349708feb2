"""The route /v1/chat/completions: one answer, whole or as a stream of events."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.streaming import EventResponse, Stream, start_answer, unless_gone
from reviewtune.local_server.chat.translation import completion, generation_request
from reviewtune.local_server.models.service import get_model
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import CurrentAccount

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


def chat_service(request: Request) -> ChatService:
    """The service that answers, for the routes of all resources that do."""
    service: ChatService = request.app.state.chat
    return service


@router.post("")
async def create(
    request: Request,
    account: CurrentAccount,
    service: Annotated[ChatService, Depends(chat_service)],
    body: ChatRequest,
) -> Response:
    wanted = generation_request(body)
    source = await run_in_threadpool(get_model, account, body.model)
    started = start_answer(service, source, wanted, streamed=bool(body.stream))
    if body.stream:  # an error before the first piece of text is an ordinary error response
        first = await started.first(request)
        stream = Stream(body, started.answer, started.pieces)
        return EventResponse(stream.events(first), started.answer, headers=service.admission.headers)
    result = await unless_gone(request, started.answer, started.answer)
    return JSONResponse(dump(completion(body, result)), headers=service.admission.headers)
