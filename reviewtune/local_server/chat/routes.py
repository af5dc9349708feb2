"""The route /v1/chat/completions: one answer, whole or as a stream of events."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.streaming import EventResponse, Piece, Stream, unless_gone
from reviewtune.local_server.chat.translation import completion, generation_request
from reviewtune.local_server.engine.types import GenerationRequest, TokenLogprob
from reviewtune.local_server.models.service import ModelSource, get_model
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import CurrentAccount

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


def _service(request: Request) -> ChatService:
    service: ChatService = request.app.state.chat
    return service


@router.post("")
async def create(
    request: Request, account: CurrentAccount, service: Annotated[ChatService, Depends(_service)], body: ChatRequest
) -> Response:
    wanted = generation_request(body)
    source = await run_in_threadpool(get_model, account, body.model)
    if body.stream:
        return await _streamed(request, service, source, wanted, body)
    answer = asyncio.create_task(service.answer(source, wanted))
    result = await unless_gone(request, answer, answer)
    return JSONResponse(dump(completion(body, result)), headers=service.admission.headers)


async def _streamed(
    request: Request, service: ChatService, source: ModelSource, wanted: GenerationRequest, body: ChatRequest
) -> Response:
    """Start the stream with the first piece of text; an error before it is an ordinary error response."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

    def listen(choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, Piece(choice, text, logprobs))

    # A seed, because the engine repeats a request whose batch failed: the repetition must write the same text.
    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    answer = asyncio.create_task(service.answer(source, replace(wanted, seed=seed, listener=listen)))
    answer.add_done_callback(lambda _: pieces.put_nowait(None))
    first = await unless_gone(request, asyncio.create_task(pieces.get()), answer)
    if first is None:
        await answer
    return EventResponse(Stream(body, answer, pieces).events(first), answer, headers=service.admission.headers)
