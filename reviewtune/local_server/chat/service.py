"""A chat's way from its request to the model's answer: admission, the model's thread, and the log."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.chat.admission import Admission, tokens_of
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.served_model import AnswerOrError
from reviewtune.local_server.chat.translation import error_for, model_unavailable
from reviewtune.local_server.engine.generation.compile_trial import needs_trial, try_to_compile
from reviewtune.local_server.engine.types import Generation, GenerationRequest, GenerationResult, UnsupportedSchema
from reviewtune.local_server.logs import facts
from reviewtune.local_server.models.service import ModelSource

log = logging.getLogger("reviewtune.chats")


@dataclass(frozen=True, slots=True)
class ChatService:
    """Answers chats, as many at a time as `admission` allows."""

    model_thread: ModelThread
    admission: Admission
    log_contents: bool
    trials: threading.Lock = field(default_factory=threading.Lock)  # of schemas

    async def answer(self, source: ModelSource, request: GenerationRequest) -> GenerationResult:
        """Wait for this request's turn and return the engine's answer.

        Raises:
            ApiError: the queue is full, or the model cannot be loaded or cannot answer the request.
        """
        (result,) = await self.answers(source, (request,))
        return result

    async def answers(self, source: ModelSource, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
        """The same for requests that one client sent together: they take one place in the queue.

        Raises:
            ApiError: as above, for the first request without an answer.
        """
        tokens = sum(map(tokens_of, requests))
        self.admission.enter(tokens)
        try:
            await self._check_schemas(requests)
            outcomes = await asyncio.wrap_future(self.model_thread.submit(source, requests))
        except ReviewtuneError as error:
            raise model_unavailable(error) from error
        finally:
            self.admission.leave(tokens)
        return self._results(source, requests, outcomes)

    async def _check_schemas(self, requests: Sequence[GenerationRequest]) -> None:
        """Refuse schemas that would keep the model's thread busy; one trial at a time, so that they take one core."""
        try:
            for request in filter(needs_trial, requests):
                await asyncio.to_thread(self._try, request)
        except (UnsupportedSchema, RecursionError) as error:
            raise error_for(error) from error

    def _try(self, request: GenerationRequest) -> None:
        with self.trials:  # in the thread, which goes on when its client has gone
            try_to_compile(request)

    def _results(
        self, source: ModelSource, requests: Sequence[GenerationRequest], outcomes: Sequence[AnswerOrError]
    ) -> list[GenerationResult]:
        results: list[GenerationResult] = []
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise error_for(outcome) from outcome
            if self.log_contents:
                _log_contents(source, request, outcome)
            results.append(outcome)
        return results


def _log_contents(source: ModelSource, request: GenerationRequest, result: GenerationResult) -> None:
    messages = [_without_nothing(asdict(message)) for message in request.messages]
    asked = {"messages": messages} if request.prompt is None else {"prompt": request.prompt}
    answers = [_logged(choice) for choice in result.choices]
    log.info("chat", extra=facts(model=source.name, **asked, answers=answers))


def _logged(choice: Generation) -> str | dict[str, Any]:
    """An answer: its text, and its calls if it has some."""
    return {"text": choice.text, "calls": [asdict(call) for call in choice.calls]} if choice.calls else choice.text


def _without_nothing(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "calls" or value}
