"""A chat's way from its request to the model's answer: admission, the model's thread, and the log."""

import asyncio
import logging
from dataclasses import asdict, dataclass

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.chat.admission import Admission, tokens_of
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.translation import error_for, model_unavailable
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.logs import facts
from reviewtune.local_server.models.service import ModelSource

log = logging.getLogger("reviewtune.chats")


@dataclass(frozen=True, slots=True)
class ChatService:
    """Answers chats, as many at a time as `admission` allows."""

    model_thread: ModelThread
    admission: Admission
    log_contents: bool

    async def answer(self, source: ModelSource, request: GenerationRequest) -> GenerationResult:
        """Wait for this request's turn and return the engine's answer.

        Raises:
            ApiError: the queue is full, or the model cannot be loaded or cannot answer the request.
        """
        tokens = tokens_of(request)
        self.admission.enter(tokens)
        try:
            (result,) = await asyncio.wrap_future(self.model_thread.submit(source, [request]))
        except ReviewtuneError as error:
            raise model_unavailable(error) from error
        finally:
            self.admission.leave(tokens)
        if isinstance(result, Exception):
            raise error_for(result) from result
        if self.log_contents:
            _log_contents(source, request, result)
        return result


def _log_contents(source: ModelSource, request: GenerationRequest, result: GenerationResult) -> None:
    messages = [asdict(message) for message in request.messages]
    answers = [choice.text for choice in result.choices]
    log.info("chat", extra=facts(model=source.name, messages=messages, answers=answers))
