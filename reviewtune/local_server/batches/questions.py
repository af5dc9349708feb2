"""What a line of a batch asks, by its endpoint: the request for the engine, and the body of its response."""

from collections.abc import Sequence
from typing import Any, Protocol

from reviewtune.local_server.chat import translation as chats
from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.completions import translation as completions
from reviewtune.local_server.completions.requests import CompletionRequest
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.responses import translation as responses
from reviewtune.local_server.responses.requests import ResponseRequest


class Question(Protocol):
    """One line's question."""

    @property
    def requests(self) -> Sequence[GenerationRequest]:
        """What the engine gets."""

    def body(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """The response's body, from the answer to each request."""

    def error(self, error: Exception) -> ApiError:
        """The response to a question that the engine could not answer."""


class ChatQuestion:
    """A line for /v1/chat/completions."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = ChatRequest.model_validate(body)
        _refuse("stream", self._body.stream)
        self.requests = [chats.generation_request(self._body)]

    def body(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        (result,) = results
        return dump(chats.completion(self._body, result))

    def error(self, error: Exception) -> ApiError:
        return chats.error_for(error)


class CompletionQuestion:
    """A line for /v1/completions, which may have several prompts."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = CompletionRequest.model_validate(body)
        _refuse("stream", self._body.stream)
        self.requests = completions.generation_requests(self._body)

    def body(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        return completions.body_of(completions.completion(self._body, results))

    def error(self, error: Exception) -> ApiError:
        return completions.renamed(chats.error_for(error))


class ResponseQuestion:
    """A line for /v1/responses; what it answers is in the batch's output, so it is not kept a second time."""

    def __init__(self, body: dict[str, Any]) -> None:
        request = ResponseRequest.model_validate(body)
        for field in ("stream", "store", "previous_response_id"):
            _refuse(field, getattr(request, field))
        self._conversation = responses.begin(request.model_copy(update={"store": False}))
        self.requests = [responses.generation_request(self._conversation)]

    def body(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        (result,) = results
        output = responses.output_of(result.choices[0], with_logprobs=self._conversation.request.with_logprobs)
        return responses.response(self._conversation, output, result)

    def error(self, error: Exception) -> ApiError:
        return responses.renamed(chats.error_for(error))


QUESTIONS: dict[str, type[ChatQuestion] | type[CompletionQuestion] | type[ResponseQuestion]] = {
    "/v1/chat/completions": ChatQuestion,
    "/v1/completions": CompletionQuestion,
    "/v1/responses": ResponseQuestion,
}


def standard_url(url: str) -> str:
    """OpenAI's name of an endpoint; at Azure it may lack the version."""
    return f"/v1{url}" if f"/v1{url}" in QUESTIONS else url


def _refuse(field: str, value: object) -> None:
    """Refuse a parameter that means nothing in a batch.

    Raises:
        ApiError: 400, the parameter is set.
    """
    if value:
        raise ApiError(400, f"'{field}' is not supported in a batch.", param=field, code="unsupported_parameter")
