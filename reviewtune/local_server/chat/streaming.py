"""An answer as server-sent events, sent while the engine writes it."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.translation import (
    finish_reason,
    logprobs,
    new_call_id,
    new_completion_id,
    usage,
)
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult, Progress, TokenLogprob, ToolCall
from reviewtune.local_server.models.service import ModelSource
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.storage.tables import now

T = TypeVar("T")
CLIENT_GONE = 499  # nginx's status for a client that closed the connection; it is only logged


@dataclass(slots=True)
class Sent:
    """How much of a choice the client has received: of its text, its tokens, and the arguments of each call."""

    characters: int = 0
    tokens: int = 0
    arguments: list[int] = field(default_factory=list)


class Pieces:
    """What is written of an answer, for the client: only the newest piece of each choice, which holds those before.

    So a client that reads slowly takes no more memory than its answer.
    """

    def __init__(self) -> None:
        self._newest: dict[int, Progress] = {}  # by choice
        self._is_complete = False
        self._changed = asyncio.Event()

    def put(self, piece: Progress) -> None:
        self._newest[piece.choice] = piece
        self._changed.set()

    def end(self) -> None:
        """No more pieces come."""
        self._is_complete = True
        self._changed.set()

    async def get(self) -> Progress | None:
        """The next piece; None at the end."""
        while not self._newest and not self._is_complete:
            self._changed.clear()
            await self._changed.wait()
        return self._newest.pop(next(iter(self._newest))) if self._newest else None


class EventResponse(StreamingResponse):
    """Sends the events of an answer; when the client has gone, nothing more is written for it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], answer: asyncio.Task[Any], headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def unless_gone(request: Request, result: asyncio.Task[T], answer: asyncio.Task[Any]) -> T:
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


class StartedAnswer(NamedTuple, Generic[T]):
    """An answer that is being written, or the answers to what one client asked together.

    Attributes:
        answer: the whole of it, later.
        pieces: it as far as it is written, if it is streamed; None at its end.
    """

    answer: asyncio.Task[T]
    pieces: Pieces

    async def first(self, request: Request) -> Progress | None:
        """Wait for the first piece; None if the answer is already complete.

        Raises:
            ApiError: there is no answer, or the client has gone.
        """
        piece = await unless_gone(request, asyncio.create_task(self.pieces.get()), self.answer)
        if piece is None:
            await self.answer
        return piece


def start_answer(
    service: ChatService, source: ModelSource, wanted: GenerationRequest, *, streamed: bool
) -> StartedAnswer[GenerationResult]:
    """Have a request answered."""
    pieces = Pieces()
    return started(service.answer(source, reporting(wanted, pieces) if streamed else wanted), pieces)


def started(answer: Coroutine[Any, Any, T], pieces: Pieces) -> StartedAnswer[T]:
    """Begin an answer, which tells `pieces` when it is complete."""
    task = asyncio.create_task(answer)
    task.add_done_callback(lambda _: pieces.end())
    return StartedAnswer(task, pieces)


def reporting(wanted: GenerationRequest, pieces: Pieces, first_choice: int = 0) -> GenerationRequest:
    """The request with a listener for the answer while it is written.

    Args:
        wanted: the request.
        pieces: what gets the answer.
        first_choice: the number that its first choice gets there.
    """
    loop = asyncio.get_running_loop()

    def listen(progress: Progress) -> None:
        numbered = replace(progress, choice=first_choice + progress.choice)
        loop.call_soon_threadsafe(pieces.put, numbered)

    # A seed, because the engine repeats a request whose batch failed: the repetition must write the same text.
    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    return replace(wanted, seed=seed, listener=listen)


class Stream:
    """The events of one streamed chat completion."""

    def __init__(self, request: ChatRequest, answer: asyncio.Task[GenerationResult], pieces: Pieces) -> None:
        self._request, self._answer, self._pieces = request, answer, pieces
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._sent = [Sent() for _ in range(request.n or 1)]
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

    async def events(self, piece: Progress | None) -> AsyncIterator[str]:
        """All events.

        Args:
            piece: the first piece, or None if the answer is already complete.
        """
        content = None if self._request.tools or self._request.functions else ""  # an answer may be calls only
        try:
            for choice in range(len(self._sent)):
                yield self._event(choice, {"role": "assistant", "content": content, "refusal": None})
            while piece is not None:
                for event in self._new_text(piece):
                    yield event
                piece = await self._pieces.get()
            for event in self._end(await self._answer):
                yield event
        except HTTPException as error:
            api_error = error if isinstance(error, ApiError) else server_error(str(error.detail))
            yield data_event(api_error.body)

    def _new_text(self, piece: Progress) -> Iterator[str]:
        """What the client has not received of a choice."""
        sent = self._sent[piece.choice]
        text, tokens = piece.text[sent.characters :], piece.logprobs[sent.tokens :]
        deltas = [{"content": text}] if text else []
        deltas += self._new_calls(piece.calls, sent)
        if not deltas and self._request.logprobs and tokens:
            deltas = [{"content": ""}]
        sent.characters = max(sent.characters, len(piece.text))  # a request that is repeated alone begins again
        sent.tokens = max(sent.tokens, len(piece.logprobs))
        for number, delta in enumerate(deltas):  # log-probabilities with the first of them
            yield self._event(piece.choice, delta, None if number or not self._request.logprobs else tokens)

    def _new_calls(self, calls: Sequence[ToolCall], sent: Sent) -> Iterator[dict[str, Any]]:
        for index, call in enumerate(calls):
            function: dict[str, str] = {}
            if is_new := index == len(sent.arguments):
                sent.arguments.append(0)
                function["name"] = call.name
            arguments = call.arguments[sent.arguments[index] :]
            sent.arguments[index] = max(sent.arguments[index], len(call.arguments))
            if is_new or arguments:
                yield self._call_delta(index, {**function, "arguments": arguments}, is_new=is_new)

    def _call_delta(self, index: int, function: dict[str, str], *, is_new: bool) -> dict[str, Any]:
        if self._request.legacy:
            return {"function_call": function}
        head = {"id": new_call_id(), "type": "function"} if is_new else {}
        return {"tool_calls": [{"index": index, **head, "function": function}]}

    def _end(self, result: GenerationResult) -> Iterator[str]:
        for index, choice in enumerate(result.choices):
            yield from self._new_text(Progress(index, choice.text, choice.logprobs, choice.calls))
            yield self._event(index, {}, finish_reason=finish_reason(choice, self._request))
        if self._with_usage:
            yield data_event(self._head | {"choices": [], "usage": usage(result).model_dump(mode="json")})
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
        return data_event(self._head | {"choices": [part]})


def data_event(content: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content)}\n\n"
