"""The route of chat completions: a place in the queue, then an answer, whole or word by word."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.chat.admission import Admission, tokens_of
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.streaming import Piece, Stream
from reviewtune.local_server.chat.translation import completion, plan, refusal_of, unavailable
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult, TokenLogprob
from reviewtune.local_server.logs import facts
from reviewtune.local_server.models.service import ModelSource, get_model
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import CurrentAccount

log = logging.getLogger("reviewtune.chats")

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


@dataclass(frozen=True, slots=True)
class ChatService:
    """Where chats are handed in."""

    dispatcher: ModelThread
    admission: Admission
    log_contents: bool

    async def answer(self, source: ModelSource, planned: GenerationRequest) -> GenerationResult:
        """The engine's answer, once it is this request's turn. Raises ApiError."""
        tokens = tokens_of(planned)
        self.admission.enter(tokens)
        try:
            (answer,) = await asyncio.wrap_future(self.dispatcher.submit(source, [planned]))
        except ReviewtuneError as error:
            raise unavailable(error) from error
        finally:
            self.admission.leave(tokens)
        if isinstance(answer, Exception):
            raise refusal_of(answer) from answer
        if self.log_contents:
            said = [asdict(message) for message in planned.messages]
            known = facts(model=source.name, messages=said, answers=[choice.text for choice in answer.choices])
            log.info("chat", extra=known)
        return answer


def _of_request(request: Request) -> ChatService:
    desk: ChatService = request.app.state.desk
    return desk


@router.post("")
async def create(
    account: CurrentAccount, desk: Annotated[ChatService, Depends(_of_request)], body: ChatRequest
) -> Response:
    planned = plan(body)
    source = await run_in_threadpool(get_model, account, body.model)
    if body.stream:
        return await _streamed(desk, source, planned, body)
    whole = dump(completion(body, await desk.answer(source, planned)))
    return JSONResponse(whole, headers=desk.admission.headers)


async def _streamed(desk: ChatService, source: ModelSource, planned: GenerationRequest, body: ChatRequest) -> Response:
    """Start to answer with the first words; what is refused before them is refused as ever."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

    def listen(choice: int, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, Piece(choice, text, logprobs))

    seed = secrets.randbits(63) if planned.seed is None else planned.seed  # a second try says the same again
    planned = replace(planned, seed=seed, listener=listen)
    answer = asyncio.create_task(desk.answer(source, planned))
    answer.add_done_callback(lambda _: pieces.put_nowait(None))
    first = await pieces.get()
    if first is None:
        await answer
    stream = Stream(body, answer, pieces)
    return StreamingResponse(stream.events(first), media_type="text/event-stream", headers=desk.admission.headers)
