"""From a client's request to the engine's, and from the engine's answer to OpenAI's; for chats and lines of batches."""

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


def plan(request: ChatRequest) -> GenerationRequest:
    """What the engine is asked for. Raises ApiError for combinations that make no sense."""
    _refuse_contradictions(request)
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


def _refuse_contradictions(request: ChatRequest) -> None:
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
        case JsonSchemaFormat(json_schema=wanted):
            if wanted.strict and (fault := fault_of(wanted.schema_)):
                raise _bad_schema(f" '{wanted.name}': {fault}")
            return wanted.schema_
    return None


def _bad_schema(reason: str) -> ApiError:
    message = f"Invalid schema for response_format{reason}"
    return ApiError(400, message, param="response_format", code="invalid_json_schema")


def new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def completion(request: ChatRequest, result: GenerationResult) -> ChatCompletion:
    return ChatCompletion(
        id=new_id(),
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
    return ChoiceLogprobs(content=[_logprob(token) for token in tokens])


def _logprob(token: TokenLogprob) -> ChatCompletionTokenLogprob:
    top = [TopLogprob(token=other.token, logprob=other.logprob, bytes=list(other.bytes)) for other in token.top]
    return ChatCompletionTokenLogprob(
        token=token.token, logprob=token.logprob, bytes=list(token.bytes), top_logprobs=top
    )


def usage(result: GenerationResult) -> CompletionUsage:
    written = sum(choice.completion_tokens for choice in result.choices)
    return CompletionUsage(
        prompt_tokens=result.prompt_tokens,
        completion_tokens=written,
        total_tokens=result.prompt_tokens + written,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=result.cached_tokens, audio_tokens=0),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=0, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
        ),
    )


def unavailable(error: ReviewtuneError) -> ApiError:
    """The model can't be loaded, for a reason that the user can mend and a retry can't."""
    refusal = ApiError(503, str(error), type_="server_error", code="model_unavailable")
    refusal.headers = {"x-should-retry": "false"}
    return refusal


def refusal_of(error: Exception) -> ApiError:
    """What a client is told when the engine could not answer its request."""
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
        case ReviewtuneError():  # the model's chat template refuses these messages
            return ApiError(400, str(error), param="messages", code="invalid_value")
    return server_error(f"The model failed on this request ({type(error).__name__}: {error}).")
