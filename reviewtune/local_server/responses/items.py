"""The items of a conversation: what clients send, how they are kept, and the messages that the model gets."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from reviewtune.local_server.engine.types import ChatMessage, ToolCall
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Strict, neutral

Item = dict[str, Any]  # as the API shows it
Status = Literal["in_progress", "completed", "incomplete"]


class TextContent(Strict):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[Any, neutral([])] = None
    logprobs: Any = None  # of an answer that is sent back
    prompt_cache_breakpoint: dict[str, Any] | None = None  # the cache needs no breakpoints


class MessageItem(Strict):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Items[TextContent]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def stored(self) -> Item:
        """The item as the API shows it."""
        is_answer = self.role == "assistant"
        texts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        content = [text_part(text) if is_answer else {"type": "input_text", "text": text} for text in texts]
        item = {"id": self.id or new_id("msg"), "type": "message", "role": self.role, "status": "completed"}
        return item | {"content": content}


class FunctionCallItem(Strict):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    async_: Annotated[Any, neutral(False), Field(alias="async")] = None
    caller: Annotated[Any, neutral({"type": "direct"})] = None
    namespace: Annotated[Any, neutral()] = None

    def stored(self) -> Item:
        """The item as the API shows it."""
        return call_item(ToolCall(self.name, self.arguments), self.id or new_id("fc"), self.call_id)


class FunctionOutputItem(Strict):
    type: Literal["function_call_output"]
    call_id: str
    output: str | Items[TextContent]
    id: str | None = None
    status: Status | None = None
    caller: Annotated[Any, neutral({"type": "direct"})] = None
    name: str | None = None
    namespace: Annotated[Any, neutral()] = None

    def stored(self) -> Item:
        """The item as the API shows it."""
        output = (
            self.output
            if isinstance(self.output, str)
            else [part.model_dump(include={"type", "text"}) for part in self.output]
        )
        item = {"id": self.id or new_id("fc"), "type": self.type, "status": "completed"}
        return item | {"call_id": self.call_id, "output": output}


def _kind(value: Mapping[str, Any]) -> str:
    return str(value.get("type", "message"))


def only_types(*types: str) -> BeforeValidator:
    """Refuse an object of another type before its fields are looked at."""

    def check(value: object) -> object:
        if not isinstance(value, Mapping):
            raise PydanticCustomError("invalid_type", "expected an object")
        if value.get("type", types[0]) not in types:
            message = "the local provider supports only these types: {types}"
            raise PydanticCustomError("invalid_value", message, {"field": "type", "types": ", ".join(types)})
        return value

    return BeforeValidator(check)


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")],
    Discriminator(_kind),
    only_types("message", "function_call", "function_call_output"),
]


def new_id(prefix: str) -> str:
    """A new id of an item or a response."""
    return f"{prefix}_{secrets.token_hex(24)}"


def text_part(text: str, logprobs: Sequence[Item] = ()) -> Item:
    """The content of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def message_item(item_id: str, content: Sequence[Item], status: Status = "completed") -> Item:
    """An answer's text."""
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": list(content)}


def call_item(call: ToolCall, item_id: str, call_id: str, status: Status = "completed") -> Item:
    """A call of a function."""
    item = {"id": item_id, "type": "function_call", "status": status, "call_id": call_id}
    return item | {"name": call.name, "arguments": call.arguments}


def messages_of(instructions: str | None, items: Iterable[Item]) -> tuple[ChatMessage, ...]:
    """The conversation for the engine; instructions and a system message at its beginning become one message.

    Raises:
        ApiError: 400, a call without its output, or an output without its call.
    """
    messages: Items[ChatMessage] = []
    called: Items[str] = []
    for item in items:
        if item["type"] == "function_call_output":
            _take_out(called, item["call_id"])
            messages.append(ChatMessage("tool", _text(item["output"])))
            continue
        before = messages[-1] if messages and messages[-1].role == "assistant" else None
        if item["type"] == "function_call":
            call = ToolCall(item["name"], item["arguments"])
            called.append(item["call_id"])
            messages[len(messages) - (before is not None) :] = [_with_call(before, call)]
        else:
            _refuse_open(called)
            messages.append(ChatMessage(item["role"], _text(item["content"])))
    _refuse_open(called)
    return tuple(_with_instructions(instructions, messages))


def _text(content: str | Sequence[Item]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _with_call(message: ChatMessage | None, call: ToolCall) -> ChatMessage:
    return ChatMessage("assistant", message.content if message else "", (*(message.calls if message else ()), call))


def _with_instructions(instructions: str | None, messages: list[ChatMessage]) -> list[ChatMessage]:
    if not instructions:
        return messages
    if messages and messages[0].role in ("system", "developer"):
        return [ChatMessage("system", f"{instructions}\n\n{messages[0].content}"), *messages[1:]]
    return [ChatMessage("system", instructions), *messages]


def _take_out(called: list[str], call_id: str) -> None:
    if call_id not in called:
        message = f"No tool call found for function call output with call_id {call_id}."
        raise ApiError(400, message, param="input", code="invalid_value")
    called.remove(call_id)


def _refuse_open(called: Sequence[str]) -> None:
    if called:
        message = f"No tool output found for function call {called[0]}."
        raise ApiError(400, message, param="input", code="invalid_value")
