"""Translation between the Responses API and the engine; what it shares with chats is in chat/."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reviewtune.local_server.chat.strict_schemas import fault_of
from reviewtune.local_server.chat.tool_requests import Choice, Wish, tools_of
from reviewtune.local_server.chat.translation import new_call_id
from reviewtune.local_server.engine.types import (
    Generation,
    GenerationRequest,
    GenerationResult,
    TokenLogprob,
)
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.responses.items import (
    Item,
    Status,
    call_item,
    message_item,
    messages_of,
    new_id,
    text_part,
)
from reviewtune.local_server.responses.requests import (
    AllowedTools,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedFunction,
    ResponseInput,
    ResponseRequest,
)
from reviewtune.local_server.storage.tables import now

PARAMS = {"messages": "input", "response_format": "text.format"}  # of chats, and what they are called here
Response = dict[str, Any]  # as the API shows it


@dataclass(frozen=True, slots=True)
class Conversation:
    """One response that is to be written.

    Attributes:
        request: what the client sent.
        items: the input, after those of the responses before it.
        id: the response's id.
        created_at: when the request came, in seconds since the epoch.
    """

    request: ResponseRequest
    items: Sequence[Item]
    id: str
    created_at: int

    @property
    def is_stored(self) -> bool:
        return self.request.store is not False


def begin(request: ResponseRequest, earlier: Sequence[Item] = ()) -> Conversation:
    """A new response.

    Args:
        request: what the client sent.
        earlier: the items of the response before.
    """
    return Conversation(request, (*earlier, *_items(request)), new_id("resp"), now())


def _items(request: ResponseInput) -> list[Item]:
    if not isinstance(request.input, str):
        return [item.stored() for item in request.input]
    message = {"id": new_id("msg"), "type": "message", "role": "user", "status": "completed"}
    return [message | {"content": [{"type": "input_text", "text": request.input}]}]


def counting_request(request: ResponseInput, earlier: Sequence[Item]) -> GenerationRequest:
    """A request that is not answered, only counted.

    Args:
        request: what the client sent.
        earlier: the items of the response before.

    Raises:
        ApiError: as `generation_request`.
    """
    return replace(_input(request, (*earlier, *_items(request))), max_tokens=0)


def _input(request: ResponseInput, items: Sequence[Item]) -> GenerationRequest:
    return GenerationRequest(
        messages=messages_of(request.instructions, items), schema=_schema(request), tools=tools_of(_wish(request))
    )


def generation_request(conversation: Conversation) -> GenerationRequest:
    """The request that the engine gets.

    Raises:
        ApiError: 400, parameters or items contradict each other, or a strict schema is not strict.
    """
    request = conversation.request
    if request.top_logprobs and not request.with_logprobs:
        message = "'top_logprobs' needs 'message.output_text.logprobs' in 'include'."
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed with 'stream'."
        raise ApiError(400, message, param="stream_options", code="invalid_value")
    return replace(
        _input(request, conversation.items),
        max_tokens=request.max_output_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        logprobs=request.with_logprobs,
        top_logprobs=request.top_logprobs or 0,
    )


def renamed(error: ApiError) -> ApiError:
    """An error about a chat, with the name that its parameter has here."""
    if error.param in PARAMS:
        error.message = error.message.replace("response_format", "text.format")
        error.param = PARAMS[error.param]
    return error


def _wish(request: ResponseInput) -> Wish:
    several = request.parallel_tool_calls is not False
    return Wish(request.tools or [], _choice(request), several, "tools[{}]")


def _choice(request: ResponseInput) -> Choice:
    match request.tool_choice:
        case NamedFunction(name=name):
            return Choice("required", (name,), forced=True)
        case AllowedTools(mode=mode, tools=tools):
            return Choice(mode, tuple(tool.name for tool in tools))
        case None:
            return Choice("auto")
        case mode:
            return Choice(mode)


def _schema(request: ResponseInput) -> dict[str, Any] | None:
    match request.text and request.text.format:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat() as form:
            if form.strict and (fault := fault_of(form.schema_)):
                message = f"Invalid schema for text.format '{form.name}': {fault}"
                raise ApiError(400, message, param="text.format.schema", code="invalid_json_schema")
            return form.schema_
    return None


def output_of(generation: Generation, *, with_logprobs: bool) -> list[Item]:
    """The items of an answer: its text, then its calls."""
    status: Status = "completed" if generation.finish_reason == "stop" else "incomplete"
    items: list[Item] = []
    if generation.text or not generation.calls:
        scores = logprobs(generation.logprobs) if with_logprobs else []
        items.append(message_item(new_id("msg"), [text_part(generation.text, scores)], status))
    calls = [call_item(call, new_id("fc"), new_call_id()) for call in generation.calls]
    if calls:
        calls[-1]["status"] = status
    return items + calls


def response(
    conversation: Conversation, output: Sequence[Item] = (), result: GenerationResult | None = None
) -> Response:
    """The response as the API shows it; without a result it is in progress."""
    request = conversation.request
    status = _status(result)
    return {
        "id": conversation.id,
        "object": "response",
        "created_at": conversation.created_at,
        "status": status,
        "background": False,
        "completed_at": now() if status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": request.model,
        "output": list(output),
        "usage": result and usage(result),
        **_echo(request),
    }


def _status(result: GenerationResult | None) -> Status:
    if result is None:
        return "in_progress"
    return "completed" if result.choices[0].finish_reason == "stop" else "incomplete"


def _echo(request: ResponseRequest) -> dict[str, Any]:
    """The request's settings, as the API repeats them."""
    choice = request.tool_choice
    return {
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.store is not False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": _format(request), "verbosity": (request.text and request.text.verbosity) or "medium"},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
        "tools": [_tool(tool) for tool in request.tools or []],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "user": request.user,
    }


def _format(request: ResponseRequest) -> dict[str, Any]:
    form = request.text and request.text.format
    return form.model_dump(by_alias=True) if form else {"type": "text"}


def _tool(tool: Any) -> dict[str, Any]:  # noqa: ANN401 - a FunctionTool
    strict = fault_of(tool.parameters or {}) is None if tool.strict is None else tool.strict
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": strict,
    }


def usage(result: GenerationResult) -> dict[str, Any]:
    """Token counts as the API shows them."""
    output = sum(choice.completion_tokens for choice in result.choices)
    return {
        "input_tokens": result.prompt_tokens,
        "input_tokens_details": {"cached_tokens": result.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": result.prompt_tokens + output,
    }


def logprobs(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Log-probabilities as the API shows them."""
    return [{**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens]


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}


def without_bytes(tokens: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in the shorter form of events."""
    return [
        {"token": token["token"], "logprob": token["logprob"]}
        | {"top_logprobs": [{key: other[key] for key in ("token", "logprob")} for other in token["top_logprobs"]]}
        for token in tokens
    ]
