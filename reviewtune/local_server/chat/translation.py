"""Translation between OpenAI's protocol and the engine, for chats and for the lines of batches."""

import secrets
from collections.abc import Iterable
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.chat.requests import ChatRequest, JsonObjectFormat, JsonSchemaFormat
from reviewtune.local_server.chat.strict_schemas import fault_of
from reviewtune.local_server.engine.types import (
    ChatMessage,
    ContextLengthExceeded,
    Generation,
    GenerationRequest,
    GenerationResult,
    TokenLogprob,
    UnknownToken,
    UnsupportedSchema,
)
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.storage.tables import now


def generation_request(request: ChatRequest) -> GenerationRequest:
    """The request that the engine gets.

    Raises:
        ApiError: 400, parameters contradict each other, or a strict schema is not strict.
    """
    _check_combinations(request)
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return GenerationRequest(
        messages=tuple(ChatMessage(message.role, message.text) for message in request.messages),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        n=request.n or 1,
        seed=request.seed,
        stop=tuple(text for text in stop if text),
        schema=_schema(request),
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs or 0,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (request.logit_bias or {}).items()},
    )


def _check_combinations(request: ChatRequest) -> None:
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed with 'stream'."
        raise ApiError(400, message, param="stream_options", code="invalid_value")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise ApiError(400, message, param="max_tokens", code="invalid_parameter_combination")


def _schema(request: ChatRequest) -> dict[str, Any] | None:
    match request.response_format:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=json_schema):
            if json_schema.strict and (fault := fault_of(json_schema.schema_)):
                raise _bad_schema(f" '{json_schema.name}': {fault}")
            return json_schema.schema_
    return None


def _bad_schema(reason: str) -> ApiError:
    message = f"Invalid schema for response_format{reason}"
    return ApiError(400, message, param="response_format", code="invalid_json_schema")


def new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def completion(request: ChatRequest, result: GenerationResult) -> ChatCompletion:
    """The engine's answer as the API shows it."""
    return ChatCompletion(
        id=new_completion_id(),
        object="chat.completion",
        created=now(),
        model=request.model,
        choices=[_choice(index, choice, request) for index, choice in enumerate(result.choices)],
        usage=usage(result),
        service_tier="default",
    )


def _choice(index: int, generation: Generation, request: ChatRequest) -> Choice:
    return Choice(
        index=index,
        message=ChatCompletionMessage(role="assistant", content=generation.text, annotations=[]),
        finish_reason=generation.finish_reason,
        logprobs=logprobs(generation.logprobs) if request.logprobs else None,
    )


def logprobs(tokens: Iterable[TokenLogprob]) -> ChoiceLogprobs:
    """Log-probabilities as the API shows them."""
    return ChoiceLogprobs(content=[_logprob(token) for token in tokens])


def _logprob(token: TokenLogprob) -> ChatCompletionTokenLogprob:
    top = [TopLogprob(token=other.token, logprob=other.logprob, bytes=list(other.bytes)) for other in token.top]
    return ChatCompletionTokenLogprob(
        token=token.token, logprob=token.logprob, bytes=list(token.bytes), top_logprobs=top
    )


def usage(result: GenerationResult) -> CompletionUsage:
    """Token counts as the API shows them; the prompt counts once, whatever the number of choices."""
    completion_tokens = sum(choice.completion_tokens for choice in result.choices)
    return CompletionUsage(
        prompt_tokens=result.prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=result.prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=result.cached_tokens, audio_tokens=0),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=0, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
        ),
    )


def model_unavailable(error: ReviewtuneError) -> ApiError:
    """The error for a model that cannot be loaded: the user can fix the reason, a retry cannot."""
    api_error = ApiError(503, str(error), type_="server_error", code="model_unavailable")
    api_error.headers = {"x-should-retry": "false"}
    return api_error


def error_for(error: Exception) -> ApiError:
    """The error response for a request that the engine could not answer."""
    match error:
        case ApiError():
            return error
        case ContextLengthExceeded():
            message = f"This model's maximum context length is {error.limit} tokens, but {error}."
            return ApiError(400, message, param="messages", code="context_length_exceeded")
        case UnsupportedSchema():
            return _bad_schema(f": {error}")
        case RecursionError():
            return _bad_schema(": it is nested too deeply.")
        case UnknownToken():
            return ApiError(400, f"Invalid key in 'logit_bias': {error}.", param="logit_bias", code="invalid_value")
        case ReviewtuneError():  # the model's chat template does not accept these messages
            return ApiError(400, str(error), param="messages", code="invalid_value")
    return server_error(f"The model failed on this request ({type(error).__name__}: {error}).")
