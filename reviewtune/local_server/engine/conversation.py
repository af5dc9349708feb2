"""What clients send, in the engine's types: the same for chats and for training files."""

import json
from collections.abc import Sequence

from reviewtune.local_server.engine.types import ChatMessage, Function, ToolCall
from reviewtune.local_server.schemas.messages import Message
from reviewtune.local_server.schemas.tools import FunctionDefinition

NO_PARAMETERS = {"type": "object", "properties": {}}


def chat_message(message: Message) -> ChatMessage:
    """A message. What a function of the legacy kind returns is like the result of a tool."""
    calls = tuple(ToolCall(call.name, call.arguments) for call in message.calls)
    return ChatMessage("tool" if message.role == "function" else message.role, message.text, calls)


def functions_of(definitions: Sequence[FunctionDefinition]) -> tuple[Function, ...]:
    """The functions; one without parameters takes none."""
    return tuple(
        Function(function.name, function.description, json.dumps(function.parameters or NO_PARAMETERS))
        for function in definitions
    )
