"""Functions in chat files: whether tools, calls and results have the form that OpenAI documents."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_TOOLS = 128
RESULT_ROLES = ("tool", "function")


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The functions that a message calls, as the file has them; also in the older form."""
    calls = message.get("tool_calls") or []
    functions = [call.get("function") if isinstance(call, Mapping) else call for call in calls]
    return [*functions, *([message["function_call"]] if message.get("function_call") else [])]


def tools_fault(line: Mapping[str, Any]) -> str | None:
    """What is wrong with the functions that an example names, or None."""
    for field in ("tools", "functions"):
        tools = line.get(field) or []
        if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
            return f"{field} must be a list of at most {MAX_TOOLS} functions"
        for number, tool in enumerate(tools):
            function = tool.get("function") if field == "tools" and isinstance(tool, Mapping) else tool
            if field == "tools" and (not isinstance(tool, Mapping) or tool.get("type") != "function"):
                return f"{field}[{number}] must have the type 'function'"
            if fault := _definition_fault(function):
                return f"{field}[{number}]: {fault}"
    return None


def _definition_fault(function: object) -> str | None:
    if not isinstance(function, Mapping) or not _is_name(function.get("name")):
        return "a function needs a name of letters, digits, _ and -, at most 64"
    if not isinstance(function.get("parameters"), Mapping | None):
        return "parameters must be a JSON schema"
    return None


def calls_fault(message: Mapping[str, Any]) -> str | None:
    """What is wrong with the calls of an assistant's message, or None."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        return "tool_calls must be a list"
    for call in calls:
        if not isinstance(call, Mapping) or not isinstance(call.get("id"), str) or call.get("type") != "function":
            return "a tool call needs an id and the type 'function'"
    faults = (_call_fault(function) for function in calls_of(message))
    return next(filter(None, faults), None)


def _call_fault(function: object) -> str | None:
    if not isinstance(function, Mapping) or not _is_name(function.get("name")):
        return "a call needs the name of a function"
    arguments = function.get("arguments")
    try:
        is_object = isinstance(arguments, str) and isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return None if is_object else f"the arguments of a call of {function['name']} must be a JSON object as text"


def results_fault(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The first result that no call before it asks for, or call whose result is missing."""
    unanswered: list[str] = []
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in unanswered:
                return f"a tool message answers the call {message.get('tool_call_id')!r}, which is not open before it"
            unanswered.remove(message["tool_call_id"])
            continue
        if unanswered:
            return f"the call {unanswered[0]!r} has no tool message with its result"
        is_last = number == len(messages) - 1  # an example may end with calls
        unanswered = [] if is_last else [call["id"] for call in message.get("tool_calls") or []]
    return None


def texts_of(line: Mapping[str, Any]) -> Iterator[str]:
    """What tokens are counted of, besides the contents: the tools of an example."""
    for field in ("tools", "functions"):
        if tools := line.get(field):
            yield json.dumps(tools, ensure_ascii=False)


def call_texts(message: Mapping[str, Any]) -> Iterator[str]:
    """The same of a message's calls."""
    for function in calls_of(message):
        yield from (str(function["name"]), str(function["arguments"]))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None
