"""An answer as server-sent events, sent while the engine writes it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.translation import logprobs, new_completion_id, usage
from reviewtune.local_server.engine.types import GenerationResult, TokenLogprob
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.storage.tables import now

T = TypeVar("T")
CLIENT_GONE = 499  # nginx's status for a client that closed the connection; it is only logged


class Piece(NamedTuple):
    """A choice as far as it is written."""

    choice: int
    text: str
    logprobs: Sequence[TokenLogprob]


class Sent(NamedTuple):
    """How much of a choice the client has received."""

    characters: int = 0
    tokens: int = 0


class EventResponse(StreamingResponse):
    """Sends the events of an answer; when the client has gone, nothing more is written for it."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[str], answer: asyncio.Task[GenerationResult], headers: dict[str, str]
    ) -> None:
        super().__init__(events, headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def unless_gone(request: Request, result: asyncio.Task[T], answer: asyncio.Task[GenerationResult]) -> T:
    """Wait for a result of an answer that is being written.

    Args:
        request: the client's request.
        result: what to wait for.
        answer: is cancelled if the client goes away, so that the engine stops.

    Raises:
        ApiError: the client has gone.
    """
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ApiError(CLIENT_GONE, "The client closed the connection.")
        return result.result()
    except BaseException:
        answer.cancel()
        raise
    finally:
        result.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Stream:
    """The events of one streamed chat completion."""

    def __init__(
        self, request: ChatRequest, answer: asyncio.Task[GenerationResult], pieces: asyncio.Queue[Piece | None]
    ) -> None:
        self._request, self._answer, self._pieces = request, answer, pieces
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._sent = [Sent()] * (request.n or 1)
        self._head: dict[str, Any] = {
            "id": new_completion_id(),
            "object": "chat.completion.chunk",
            "created": now(),
            "model": request.model,
            "service_tier": "default",
            "system_fingerprint": None,
        }
        if self._with_usage:
            self._head["usage"] = None

    async def events(self, piece: Piece | None) -> AsyncIterator[str]:
        """All events.

        Args:
            piece: the first piece, or None if the answer is already complete.
        """
        try:
            for choice in range(len(self._sent)):
                yield self._event(choice, {"role": "assistant", "content": "", "refusal": None})
            while piece is not None:
                for event in self._new_text(piece):
                    yield event
                piece = await self._pieces.get()
            for event in self._end(await self._answer):
                yield event
        except HTTPException as error:
            api_error = error if isinstance(error, ApiError) else server_error(str(error.detail))
            yield _data(api_error.body)

    def _new_text(self, piece: Piece) -> Iterator[str]:
        """What the client has not received of a choice."""
        sent = self._sent[piece.choice]
        text, tokens = piece.text[sent.characters :], piece.logprobs[sent.tokens :]
        if text or (self._request.logprobs and tokens):
            self._sent[piece.choice] = Sent(len(piece.text), len(piece.logprobs))
            yield self._event(piece.choice, {"content": text}, tokens if self._request.logprobs else None)

    def _end(self, result: GenerationResult) -> Iterator[str]:
        for index, choice in enumerate(result.choices):
            yield from self._new_text(Piece(index, choice.text, choice.logprobs))
            yield self._event(index, {}, finish_reason=choice.finish_reason)
        if self._with_usage:
            yield _data(self._head | {"choices": [], "usage": usage(result).model_dump(mode="json")})
        yield "data: [DONE]\n\n"

    def _event(
        self,
        choice: int,
        delta: dict[str, Any],
        tokens: Sequence[TokenLogprob] | None = None,
        finish_reason: str | None = None,
    ) -> str:
        scores = None if tokens is None else logprobs(tokens).model_dump(mode="json")
        part = {"index": choice, "delta": delta, "logprobs": scores, "finish_reason": finish_reason}
        return _data(self._head | {"choices": [part]})


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
