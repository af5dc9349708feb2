"""A conversation's messages: one reading for chats, batches and training files, so that all accept the same ones."""

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field

from reviewtune.local_server.schemas.strict_models import Strict, neutral

USE_A_SCHEMA = "for an answer in a given form use 'response_format' with the type json_schema"
NO_TOOLS = neutral([], instead=f"the model calls no tools: {USE_A_SCHEMA}")
NO_FUNCTION = neutral(instead=f"the model calls no functions: {USE_A_SCHEMA}")
NO_AUDIO = neutral(instead="the model reads and writes text only")
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers and an empty Braille pattern: letters that show nothing


class TextPart(Strict):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None  # the cache needs no breakpoints


class Message(Strict):
    """One message. Fields that clients send back with an assistant's message may be null."""

    role: Literal["developer", "system", "user", "assistant"]
    name: Annotated[str, Field(max_length=64)] | None = None  # of the person; the model does not see it
    refusal: Annotated[Any, neutral()] = None
    audio: Annotated[Any, NO_AUDIO] = None
    annotations: Annotated[Any, neutral([])] = None
    tool_calls: Annotated[Any, NO_TOOLS] = None
    function_call: Annotated[Any, NO_FUNCTION] = None
    content: str | list[TextPart]  # last, because a message with tool calls may have none: its error is about the calls

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class TrainingMessage(Message):
    """A message of a training example: an assistant's message may be left out of what is learned."""

    weight: Literal[0, 1] | None = None

    @property
    def is_learned(self) -> bool:
        """Whether it is an answer to learn. Answering with nothing visible is not something to learn."""
        return self.role == "assistant" and self.weight != 0 and not _is_blank(self.text)


class Example(Strict):
    """One line of a training or validation file."""

    messages: Annotated[list[TrainingMessage], Field(min_length=1)]
    parallel_tool_calls: bool | None = None  # has no effect without tools
    tools: Annotated[Any, NO_TOOLS] = None
    functions: Annotated[Any, NO_TOOLS] = None

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
