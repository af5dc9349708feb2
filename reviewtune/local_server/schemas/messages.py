"""A conversation's messages: one reading for chats, batches and training files, so that all accept the same ones."""

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Strict, neutral
from reviewtune.local_server.schemas.tools import CalledFunction, CalledTool, FunctionDefinition, FunctionList, ToolList

NO_AUDIO = neutral(instead="the model reads and writes text only")
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers and an empty Braille pattern: letters that show nothing


class TextPart(Strict):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None  # the cache needs no breakpoints


class Message(Strict):
    """One message. Fields that clients send back with an assistant's message may be null."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    name: Annotated[str, Field(max_length=64)] | None = None  # of the person; the model does not see it
    refusal: Annotated[Any, neutral()] = None
    audio: Annotated[Any, NO_AUDIO] = None
    annotations: Annotated[Any, neutral([])] = None
    tool_calls: Items[CalledTool] | None = None  # of an assistant
    function_call: CalledFunction | None = None  # of an assistant, the legacy form
    tool_call_id: str | None = None  # of a tool: which call this is the result of
    content: str | Items[TextPart] | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        for field, role in (("tool_calls", "assistant"), ("function_call", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, field) and self.role != role:
                message = "only a message of the role {needed} has it"
                raise PydanticCustomError("invalid_value", message, {"field": field, "needed": role})
        if self.role == "tool" and self.tool_call_id is None:
            raise _missing("tool_call_id")
        if self.role == "function" and not self.name:
            raise _missing("name")
        if self.content is None and not self.calls:
            if "content" in self.model_fields_set:
                fault = "expected a string, but got null instead"
                raise PydanticCustomError("invalid_type", fault, {"field": "content"})
            raise _missing("content")
        return self

    @property
    def text(self) -> str:
        if self.content is None:
            return ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def calls(self) -> list[CalledFunction]:
        """The functions that an assistant called."""
        legacy = [self.function_call] if self.function_call else []
        return [*(call.function for call in self.tool_calls or []), *legacy]


def _missing(field: str) -> PydanticCustomError:
    return PydanticCustomError("missing", "missing", {"field": field})


class MessageFault(NamedTuple):
    """A message that does not fit those before it."""

    number: int  # from 0
    field: str
    reason: str

    @property
    def param(self) -> str:
        """The field as errors name it."""
        return f"messages[{self.number}].{self.field}"


def fault_of_results(messages: Sequence[Message], *, may_end_with_calls: bool = False) -> MessageFault | None:
    """The first result of a tool that nothing called, or call that has no result; in OpenAI's words.

    Args:
        messages: the conversation.
        may_end_with_calls: whether the last message may call tools, as in a training example.
    """
    unanswered: set[str] = set()
    caller = -1
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in unanswered:
                return _uncalled(number, message, caller == -1)
            unanswered.discard(message.tool_call_id)
            continue
        if unanswered:
            return _unanswered(caller, unanswered)
        caller = number if message.tool_calls else -1
        unanswered = {call.id for call in message.tool_calls or []}
    is_open = unanswered and not (may_end_with_calls and caller == len(messages) - 1)
    return _unanswered(caller, unanswered) if is_open else None


def _uncalled(number: int, message: Message, no_caller: bool) -> MessageFault:
    if no_caller:
        reason = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
        return MessageFault(number, "role", f"Invalid parameter: {reason}.")
    reason = f"'tool_call_id' of '{message.tool_call_id}' not found in 'tool_calls' of previous message"
    return MessageFault(number, "tool_call_id", f"Invalid parameter: {reason}.")


def _unanswered(number: int, missing: set[str]) -> MessageFault:
    reason = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
    )
    ids = ", ".join(sorted(missing))
    return MessageFault(
        number, "tool_calls", f"{reason} The following tool_call_ids did not have response messages: {ids}"
    )


class TrainingMessage(Message):
    """A message of a training example: an assistant's message may be left out of what is learned."""

    weight: Literal[0, 1] | None = None

    @property
    def is_learned(self) -> bool:
        """Whether it is an answer to learn. Answering with nothing visible is not something to learn."""
        return self.role == "assistant" and self.weight != 0 and bool(self.calls or not _is_blank(self.text))


class Example(Strict):
    """One line of a training or validation file."""

    messages: Annotated[Items[TrainingMessage], Field(min_length=1)]
    parallel_tool_calls: bool | None = None  # an example shows what the model may do
    tools: ToolList | None = None
    functions: FunctionList | None = None  # the legacy form

    @property
    def definitions(self) -> list[FunctionDefinition]:
        """The functions that the model is shown."""
        return [*(tool.function for tool in self.tools or []), *(self.functions or [])]

    @property
    def needs_tools(self) -> str | None:
        """The field for which the model's chat template must have a format for tools, or None."""
        if self.tools or self.functions:
            return "tools" if self.tools else "functions"
        if any(message.calls for message in self.messages):
            return "tool_calls"
        return "role" if any(message.role in ("tool", "function") for message in self.messages) else None

    @property
    def nothing_to_learn(self) -> str | None:
        """Why nothing can be learned from the conversation, or None."""
        answers = [message for message in self.messages if message.role == "assistant"]
        if not answers:
            return "there is no assistant message to learn from"
        if any(message.is_learned for message in answers):
            return None
        if all(message.weight == 0 for message in answers):
            return "all assistant messages have the weight 0, so there is nothing to learn"
        return "the assistant message is empty, so there is nothing to learn"


def _is_blank(text: str) -> bool:
    """Whether a text shows nothing: spaces, control and formatting characters."""
    return all(unicodedata.category(character)[0] in "ZC" or character in FILLERS for character in text)
