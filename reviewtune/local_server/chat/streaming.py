"""An answer as server-sent events, sent while the engine writes it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple

from fastapi import HTTPException

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.translation import logprobs, new_id, usage
from reviewtune.local_server.engine.types import GenerationResult, TokenLogprob
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.storage.tables import now


class Piece(NamedTuple):
    """A choice so far."""

    choice: int
    text: str
    logprobs: Sequence[TokenLogprob]


class Sent(NamedTuple):
    """What a client has of a choice."""

    characters: int = 0
    tokens: int = 0


class Stream:
    def __init__(
        self, request: ChatRequest, answer: asyncio.Task[GenerationResult], pieces: asyncio.Queue[Piece | None]
    ) -> None:
        self._request, self._answer, self._pieces = request, answer, pieces
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._sent = [Sent()] * (request.n or 1)
        self._head: dict[str, Any] = {
            "id": new_id(),
            "object": "chat.completion.chunk",
            "created": now(),
            "model": request.model,
            "service_tier": "default",
            "system_fingerprint": None,
        }
        if self._with_usage:
            self._head["usage"] = None

    async def events(self, piece: Piece | None) -> AsyncIterator[str]:
        """All events, `piece` being the first that came; None when the answer is there."""
        try:
            for choice in range(len(self._sent)):
                yield self._event(choice, {"role": "assistant", "content": "", "refusal": None})
            while piece is not None:
                for event in self._news(piece):
                    yield event
                piece = await self._pieces.get()
            for event in self._end(await self._answer):
                yield event
        except HTTPException as error:
            refusal = error if isinstance(error, ApiError) else server_error(str(error.detail))
            yield _data(refusal.body)
        finally:
            self._answer.cancel()  # the client may have gone: what has not begun need not begin

    def _news(self, piece: Piece) -> Iterator[str]:
        """What the client lacks of a choice."""
        sent = self._sent[piece.choice]
        text, tokens = piece.text[sent.characters :], piece.logprobs[sent.tokens :]
        if text or (self._request.logprobs and tokens):
            self._sent[piece.choice] = Sent(len(piece.text), len(piece.logprobs))
            yield self._event(piece.choice, {"content": text}, tokens if self._request.logprobs else None)

    def _end(self, result: GenerationResult) -> Iterator[str]:
        for index, choice in enumerate(result.choices):
            yield from self._news(Piece(index, choice.text, choice.logprobs))
            yield self._event(index, {}, end=choice.finish_reason)
        if self._with_usage:
            yield _data(self._head | {"choices": [], "usage": usage(result).model_dump(mode="json")})
        yield "data: [DONE]\n\n"

    def _event(
        self, choice: int, delta: dict[str, Any], tokens: Sequence[TokenLogprob] | None = None, end: str | None = None
    ) -> str:
        scored = None if tokens is None else logprobs(tokens).model_dump(mode="json")
        part = {"index": choice, "delta": delta, "logprobs": scored, "finish_reason": end}
        return _data(self._head | {"choices": [part]})


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
