"""How a model writes calls of functions: in its chat template's format, or in one that the prompt tells it."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from reviewtune.local_server.engine.types import ChatMessage, Function, ToolCall

NAME = "\ue001"  # characters of the private use area, which no template contains
TEXT = "\ue002"
ARGUMENTS = {"\ue003": "\ue003"}
SHORTEST_TRIGGER = 4  # characters; a shorter one would also be in ordinary text

Render = Callable[
    [list[dict[str, Any]], Sequence[Function], bool], str
]  # messages, functions, whether an answer begins


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The text of a call: `begin`, the function's name, `middle`, its arguments, `end`.

    Attributes:
        begin: the text before the name.
        middle: the text between name and arguments.
        end: the text after the arguments.
        between: what separates two calls, or None if there may be only one.
        after_text: what separates text from a call after it, or None if an answer is either text or calls.
        native: whether it is the chat template's own format.
    """

    begin: str
    middle: str
    end: str
    between: str | None
    after_text: str | None
    native: bool = True

    @property
    def trigger(self) -> str:
        """The text that only calls begin with; empty if an answer is a call when its first character says so."""
        trigger = self.begin.partition("{")[0].strip()
        return trigger if len(trigger) >= SHORTEST_TRIGGER else ""

    def text(self, call: ToolCall) -> str:
        """A call as the model writes it."""
        return f"{self.begin}{call.name}{self.middle}{call.arguments}{self.end}"


PLAIN = ToolFormat('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", None, None, native=False)
INSTRUCTION = """# Functions

You can call one of these functions, each given as a JSON object:
{functions}

To call a function, answer with nothing but its name and its arguments:
<tool_call>
{{"name": "NAME", "arguments": {{...}}}}
</tool_call>"""


def described(function: Function) -> dict[str, Any]:
    """A function in OpenAI's form, as chat templates expect it."""
    content = {
        "name": function.name,
        "description": function.description,
        "parameters": json.loads(function.parameters),
    }
    return {"type": "function", "function": {key: value for key, value in content.items() if value is not None}}


def as_turn(message: ChatMessage) -> dict[str, Any]:
    """A message as chat templates expect it: arguments are an object, not text."""
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content,
    }
    if message.calls:
        turn["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": _value(call.arguments)}}
            for call in message.calls
        ]
    return turn


def template_format(render: Render, special: Collection[str]) -> ToolFormat | None:
    """The format in which a chat template writes calls, found by rendering some; None if it has none.

    Args:
        render: the chat template.
        special: the tokenizer's special tokens, which are never written as text.
    """
    try:
        found = _template_format(render)
    except Exception:  # what a template raises about messages that it does not know is its own affair
        return None
    texts = (found.begin, found.middle, found.end, found.between or "") if found else ()
    return None if any(token in text for token in special for text in texts) else found


def _template_format(render: Render) -> ToolFormat | None:
    user = {"role": "user", "content": "probe"}
    start = render([user], (), True)
    end_of_turn = render([user, {"role": "assistant", "content": TEXT}], (), False).partition(TEXT)[2]

    def answer(content: str, calls: int) -> str:
        call = as_turn(ChatMessage("assistant", content, (ToolCall(NAME, json.dumps(ARGUMENTS)),) * calls))
        return render([user, call], (), False).removeprefix(start).removesuffix(end_of_turn)

    one = answer("", 1)
    begin, named, rest = one.partition(NAME)
    middle, has_arguments, end = rest.partition(json.dumps(ARGUMENTS, ensure_ascii=False))
    if not (begin and named and has_arguments) or not _shows_tools(render, user):
        return None
    between = _between(lambda: answer("", 2), one, one)
    return ToolFormat(begin, middle, end, between, _between(lambda: answer(TEXT, 1), TEXT, one))


def _shows_tools(render: Render, user: dict[str, Any]) -> bool:
    """Whether the model would see functions, and what they return."""
    functions = (Function(NAME, None, json.dumps({"type": "object", "properties": {}})),)
    call = as_turn(ChatMessage("assistant", "", (ToolCall(NAME, "{}"),)))
    results = render([user, call, {"role": "tool", "content": TEXT}], functions, False)
    return NAME in render([user], functions, False) and TEXT in results


def _between(render: Callable[[], str], first: str, second: str) -> str | None:
    """The text between two parts, or None if the template cannot write both."""
    try:
        text = render()
    except Exception:  # as above
        return None
    fits = text.startswith(first) and text.endswith(second) and len(text) >= len(first) + len(second)
    return text[len(first) : len(text) - len(second)] if fits else None


def flattened(messages: Sequence[ChatMessage], functions: Sequence[Function]) -> tuple[ChatMessage, ...]:
    """A conversation with functions for a template that knows none: all of it is text.

    Functions are described in the system message, calls are the text of answers, and results are a user's text.
    """
    plain = list(_flat(messages))
    if not functions:
        return tuple(plain)
    listed = "\n".join(json.dumps(described(function), ensure_ascii=False) for function in functions)
    instruction = INSTRUCTION.format(functions=listed)
    if plain and plain[0].role in ("system", "developer"):
        system = ChatMessage(plain[0].role, f"{plain[0].content}\n\n{instruction}")
        return (system, *plain[1:])
    return (ChatMessage("system", instruction), *plain)


def _flat(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            results = (f"<tool_response>\n{message.content}\n</tool_response>" for message in group)
            yield ChatMessage("user", "\n".join(results))
            continue
        for message in group:
            calls = (PLAIN.text(ToolCall(call.name, _normal(call.arguments))) for call in message.calls)
            yield ChatMessage(message.role, "\n".join(filter(None, (message.content, *calls))))


def _value(arguments: str) -> Any:  # noqa: ANN401 - JSON may be anything
    """Arguments as an object; a client may also send back text that is not valid JSON."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _normal(arguments: str) -> str:
    """Arguments in the form in which the model writes them."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments
