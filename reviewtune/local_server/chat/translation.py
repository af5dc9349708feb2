"""Translation between OpenAI's protocol and the engine, for chats and for the lines of batches."""

import secrets
from collections.abc import Iterable
from typing import Any, Literal

from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionTokenLogprob,
)
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_message import FunctionCall
from openai.types.chat.chat_completion_message_function_tool_call import Function
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.chat.requests import ChatRequest, JsonObjectFormat, JsonSchemaFormat
from reviewtune.local_server.chat.strict_schemas import fault_of
from reviewtune.local_server.chat.tool_requests import (
    FunctionName,
    NamedTool,
    Wish,
    bad_parameters,
    choice_of,
    legacy_choice_of,
    tools_of,
)
from reviewtune.local_server.engine.conversation import chat_message
from reviewtune.local_server.engine.types import (
    ContextLengthExceeded,
    Generation,
    GenerationRequest,
    GenerationResult,
    TokenLogprob,
    UnknownPromptToken,
    UnknownToken,
    UnsupportedSchema,
)
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.schemas.messages import fault_of_results
from reviewtune.local_server.storage.tables import now

AnyFinishReason = Literal["stop", "length", "tool_calls", "function_call"]


def generation_request(request: ChatRequest) -> GenerationRequest:
    """The request that the engine gets.

    Raises:
        ApiError: 400, parameters or messages contradict each other, or a strict schema is not strict.
    """
    _check_combinations(request)
    _check_results(request)
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return GenerationRequest(
        messages=tuple(map(chat_message, request.messages)),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        n=request.n or 1,
        seed=request.seed,
        stop=tuple(text for text in stop if text),
        schema=_schema(request),
        tools=tools_of(_wish(request)),
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


def _wish(request: ChatRequest) -> Wish:
    several = request.parallel_tool_calls is not False
    if not request.legacy:
        definitions = [tool.function for tool in request.tools or []]
        return Wish(definitions, choice_of(request.tool_choice), several, "tools[{}].function")
    choice = legacy_choice_of(request.function_call)
    return Wish(request.functions or [], choice, False, "functions[{}]", "function_call")


def _check_results(request: ChatRequest) -> None:
    if (fault := fault_of_results(request.messages)) is not None:
        raise ApiError(400, fault.reason, param=fault.param, code="invalid_value")


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


def new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


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
        message=_message(generation, legacy=request.legacy),
        finish_reason=finish_reason(generation, request),
        logprobs=logprobs(generation.logprobs) if request.logprobs else None,
    )


def _message(generation: Generation, *, legacy: bool) -> ChatCompletionMessage:
    message = ChatCompletionMessage(role="assistant", content=generation.text, annotations=[])
    if not generation.calls:
        return message
    message.content = generation.text or None
    if legacy:
        (call,) = generation.calls
        message.function_call = FunctionCall(name=call.name, arguments=call.arguments)
    else:
        message.tool_calls = [
            ChatCompletionMessageFunctionToolCall(
                id=new_call_id(), type="function", function=Function(name=call.name, arguments=call.arguments)
            )
            for call in generation.calls
        ]
    return message


def finish_reason(generation: Generation, request: ChatRequest) -> AnyFinishReason:
    """Why an answer ended, as OpenAI says it: after a call of the one function that it had to call, `stop`."""
    forced = isinstance(request.tool_choice, NamedTool) or isinstance(request.function_call, FunctionName)
    if not generation.calls or forced or generation.finish_reason != "stop":
        return generation.finish_reason
    return "function_call" if request.legacy else "tool_calls"


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
        case UnsupportedSchema(function=str(function)):
            return bad_parameters(function, str(error))
        case UnsupportedSchema():
            return _bad_schema(f": {error}")
        case RecursionError():
            return _bad_schema(": it is nested too deeply.")
        case UnknownPromptToken():
            return ApiError(400, f"Invalid 'prompt': {error}.", param="prompt", code="invalid_value")
        case UnknownToken():
            return ApiError(400, f"Invalid key in 'logit_bias': {error}.", param="logit_bias", code="invalid_value")
        case ReviewtuneError():  # the model's chat template does not accept these messages
            return ApiError(400, str(error), param="messages", code="invalid_value")
    return server_error(f"The model failed on this request ({type(error).__name__}: {error}).")
