"""Tools of a request: which functions there are, and how the answer may call them."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from reviewtune.local_server.chat.strict_schemas import fault_of
from reviewtune.local_server.engine.conversation import functions_of
from reviewtune.local_server.engine.types import Tools
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Strict
from reviewtune.local_server.schemas.tools import FunctionDefinition

Mode = Literal["none", "auto", "required"]


class FunctionName(Strict):
    name: str


class NamedTool(Strict):
    type: Literal["function"]
    function: FunctionName


class AllowedFunctions(Strict):
    mode: Literal["auto", "required"]
    tools: Annotated[Items[NamedTool], Field(min_length=1)]


class AllowedTools(Strict):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedFunctions


ToolChoice = Mode | Annotated[NamedTool | AllowedTools, Field(discriminator="type")]


class Choice(NamedTuple):
    """How the answer may call functions.

    Attributes:
        mode: whether it may or must call one.
        names: the functions that it may call; None for all of them.
        forced: whether a single function is named.
    """

    mode: Mode
    names: Sequence[str] | None = None
    forced: bool = False


class Wish(NamedTuple):
    """What a request says of functions, whatever its form.

    Attributes:
        definitions: the functions.
        choice: how the answer may call them.
        several: whether one answer may call several times.
        place: the parameter with the number-th function, for errors.
        choice_param: the parameter with the choice.
    """

    definitions: Sequence[FunctionDefinition]
    choice: Choice
    several: bool
    place: str
    choice_param: str = "tool_choice"


def choice_of(choice: ToolChoice | None) -> Choice:
    """What `tool_choice` says; without it the model decides."""
    match choice:
        case NamedTool(function=function):
            return Choice("required", (function.name,), forced=True)
        case AllowedTools(allowed_tools=allowed):
            return Choice(allowed.mode, tuple(tool.function.name for tool in allowed.tools))
    return Choice(choice or "auto")


def legacy_choice_of(choice: Literal["none", "auto"] | FunctionName | None) -> Choice:
    """What the older `function_call` says."""
    if isinstance(choice, FunctionName):
        return Choice("required", (choice.name,), forced=True)
    return Choice(choice or "auto")


def tools_of(wish: Wish) -> Tools | None:
    """The functions for the engine; None if the answer may call none.

    Raises:
        ApiError: 400, a choice of a function that is not there, two of one name, or a schema against OpenAI's rules.
    """
    if not wish.definitions:
        if wish.choice.mode == "required" or wish.choice.names:
            functions = wish.place.partition("[")[0]
            raise _bad_choice(wish, f"'{wish.choice_param}' is only allowed when '{functions}' are specified.")
        return None
    names = [function.name for function in wish.definitions]
    for number, function in enumerate(wish.definitions):
        _check(function, wish.place.format(number), function.name in names[:number])
    if unknown := [name for name in wish.choice.names or () if name not in names]:
        raise _bad_choice(wish, f"Tool choice '{unknown[0]}' not found in the functions: {', '.join(names)}.")
    if wish.choice.mode == "none":
        return None
    allowed = tuple(names if wish.choice.names is None else wish.choice.names)
    several = wish.several and not wish.choice.forced
    return Tools(functions_of(wish.definitions), allowed, required=wish.choice.mode == "required", several=several)


def _check(function: FunctionDefinition, place: str, is_repeated: bool) -> None:
    if is_repeated:
        message = f"Invalid '{place}.name': there are two functions with the name '{function.name}'."
        raise ApiError(400, message, param=f"{place}.name", code="invalid_value")
    schema = function.parameters or {"type": "object"}
    kind = schema.get("type")
    fault = None if kind == "object" else f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {kind!r}'."
    if fault is None and function.strict and function.parameters:
        fault = fault_of(function.parameters)
    if fault:
        raise bad_parameters(function.name, fault, f"{place}.parameters")


def bad_parameters(name: str, reason: str, param: str = "tools") -> ApiError:
    """The error for a function whose parameters cannot be used."""
    message = f"Invalid schema for function '{name}': {reason}"
    return ApiError(400, message, param=param, code="invalid_function_parameters")


def _bad_choice(wish: Wish, message: str) -> ApiError:
    return ApiError(400, message, param=wish.choice_param, code="invalid_value")
