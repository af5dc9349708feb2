"""The events of a streamed completion."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from fastapi import HTTPException

from reviewtune.local_server.chat.service import ChatService
from reviewtune.local_server.chat.streaming import Pieces, Sent, StartedAnswer, data_event, reporting, started
from reviewtune.local_server.completions.requests import CompletionRequest
from reviewtune.local_server.completions.translation import (
    body_of,
    logprobs,
    new_completion_id,
    renamed,
    scored,
    usage,
)
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult, Progress, TokenLogprob
from reviewtune.local_server.models.service import ModelSource
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.storage.tables import now


def start(
    service: ChatService, source: ModelSource, wanted: Sequence[GenerationRequest], *, streamed: bool
) -> StartedAnswer[list[GenerationResult]]:
    """Have the prompts of a request answered; choices are numbered across all prompts."""
    pieces = Pieces()
    if streamed:
        wanted = [reporting(one, pieces, number * one.n) for number, one in enumerate(wanted)]
    return started(service.answers(source, wanted), pieces)


class CompletionEvents:
    """The events of one streamed completion."""

    def __init__(self, request: CompletionRequest, answers: StartedAnswer[list[GenerationResult]]) -> None:
        self._request, self._answers, self._pieces = request, answers.answer, answers.pieces
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._sent = [Sent() for _ in range(len(request.prompts) * (request.n or 1))]
        self._head: dict[str, Any] = {
            "id": new_completion_id(),
            "object": "text_completion",
            "created": now(),
            "model": request.model,
            "system_fingerprint": None,
        }
        if self._with_usage:
            self._head["usage"] = None

    async def events(self, piece: Progress | None) -> AsyncIterator[str]:
        """All events.

        Args:
            piece: the first piece, or None if all answers are already complete.
        """
        try:
            for event in self._echo():
                yield event
            while piece is not None:
                for event in self._new_text(piece):
                    yield event
                piece = await self._pieces.get()
            for event in self._end(await self._answers):
                yield event
        except HTTPException as error:
            api_error = renamed(error) if isinstance(error, ApiError) else server_error(str(error.detail))
            yield data_event(api_error.body)

    def _echo(self) -> Iterator[str]:
        for number, prompt in enumerate(self._request.prompts if self._request.echo else ()):
            choices = self._request.n or 1
            for choice in range(number * choices, (number + 1) * choices):
                yield self._event(choice, str(prompt))

    def _new_text(self, piece: Progress) -> Iterator[str]:
        """What the client has not received of a choice."""
        sent, wants_scores = self._sent[piece.choice], self._request.logprobs is not None
        text, tokens = piece.text[sent.characters :], piece.logprobs[sent.tokens :]
        if text or (wants_scores and tokens):
            yield self._event(piece.choice, text, tokens if wants_scores else None, offset=sent.characters)
        sent.characters = max(sent.characters, len(piece.text))  # a request that is repeated alone begins again
        sent.tokens = max(sent.tokens, len(piece.logprobs))

    def _end(self, results: Sequence[GenerationResult]) -> Iterator[str]:
        for index, choice in enumerate(choice for result in results for choice in result.choices):
            yield from self._new_text(Progress(index, choice.text, choice.logprobs))
            yield self._event(index, "", finish_reason=choice.finish_reason)
        if self._with_usage:
            yield data_event(self._head | {"choices": [], "usage": body_of(usage(results))})
        yield "data: [DONE]\n\n"

    def _event(
        self,
        choice: int,
        text: str,
        tokens: Sequence[TokenLogprob] | None = None,
        finish_reason: str | None = None,
        offset: int = 0,
    ) -> str:
        scores = None if tokens is None else body_of(logprobs(list(scored(tokens)), offset))
        part = {"index": choice, "text": text, "logprobs": scores, "finish_reason": finish_reason}
        return data_event(self._head | {"choices": [part]})
