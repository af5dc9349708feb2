"""The one shape in which the server says no: `{"error": {message, type, param, code}}`, with OpenAI's codes.

A handler raises ApiError; a body that does not fit its schema is translated by `from_faults`, for HTTP requests and
for the lines of a batch alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from pydantic import ValidationError

Fault = Mapping[str, Any]  # one entry of pydantic's ValidationError.errors()

SHOWN = 100  # characters of a faulty value
_BELOW = {"greater_than": ">", "greater_than_equal": ">="}
_ABOVE = {"less_than": "<", "less_than_equal": "<="}
_EXPECTED = {
    "string_type": "a string",
    "string_unicode": "a string of valid Unicode",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "finite_number": "a finite number",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "value_error": "a file",
}


class ApiError(HTTPException):
    """An answer of 400 or more, in OpenAI's words."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type_: str = "invalid_request_error",
    ) -> None:
        super().__init__(status, message)
        self.message, self.param, self.code, self.type = message, param, code, type_

    @property
    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


def server_error(message: str) -> ApiError:
    return ApiError(500, message, type_="server_error", code="internal_error")


def from_faults(faults: Sequence[Fault], body: object) -> ApiError:
    """The refusal for the first faulty parameter; of a union's branches, the one that got furthest speaks."""
    if faults[0]["type"] == "json_invalid":
        return ApiError(400, "We could not parse the JSON body of your request: it is not valid JSON.")
    named = [(_param(fault, body), fault) for fault in faults]
    if named[0] == ("", faults[0]) and faults[0]["type"] == "missing":
        return ApiError(400, "The request has no body: send a JSON object, declared as application/json.")
    first = named[0][0]
    inside = [entry for entry in named if first and entry[0].startswith((f"{first}.", f"{first}["))]
    param, fault = inside[0] if inside else [entry for entry in named if entry[0] == first][-1]
    message, code = _reason(fault, param)
    return ApiError(400, message, param=param or None, code=code)


def from_validation(error: ValidationError, body: object) -> ApiError:
    """The same for a value that did not come as a body of its own."""
    faults = error.errors(include_url=False)
    return from_faults([{**fault, "loc": ("body", *fault["loc"])} for fault in faults], body)


def _param(fault: Fault, body: object) -> str:
    """`messages[0].role` from ("body", "messages", 0, "role"), without the tags that unions put between."""
    if "param" in fault.get("ctx", {}):  # a check of ours over several parameters
        return str(fault["ctx"]["param"])
    name, here = "", body
    for position, step in enumerate(fault["loc"]):
        absent = fault["type"] == "missing" and position == len(fault["loc"]) - 1
        if position == 0 and step in ("body", "query", "path", "header"):
            here = None if step != "body" else body
            name = "" if step == "body" else str(fault["loc"][-1])
        elif isinstance(step, int) and isinstance(here, list):
            name, here = f"{name}[{step}]", here[step]
        elif isinstance(here, Mapping) and (step in here or absent):
            name, here = f"{name}.{step}" if name else str(step), here.get(step)
        elif absent and not name:
            name = str(step)
    if fault["type"].startswith("union_tag"):
        name += "." + fault["ctx"]["discriminator"].strip("'")
    return name


def _reason(fault: Fault, param: str) -> tuple[str, str]:
    """Message and code of one fault."""
    kind, context, seen = fault["type"], fault.get("ctx", {}), fault.get("input")
    if kind in ("missing", "union_tag_not_found"):
        return f"Missing required parameter: '{param}'.", "missing_required_parameter"
    if kind == "extra_forbidden":
        return f"Unknown parameter: '{param}'.", "unknown_parameter"
    if kind == "literal_error":
        return f"Invalid value: {_shown(seen)}. Supported values are: {context['expected']}.", "invalid_value"
    if kind == "union_tag_invalid":
        return (
            f"Invalid value: {_shown(context['tag'])}. Supported values are: {context['expected_tags']}.",
            "invalid_value",
        )
    if kind in _BELOW | _ABOVE:
        return _out_of_range(kind, context, seen, param)
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        return _bad_length(kind, context, param)
    if kind == "string_pattern_mismatch":
        return f"Invalid '{param}': string does not match the pattern {context['pattern']}.", "invalid_value"
    if kind in _EXPECTED:
        what = f"'{param}'" if param else "the request body"
        return f"Invalid type for {what}: expected {_EXPECTED[kind]}, but got {_kind(seen)} instead.", "invalid_type"
    return f"Invalid '{param}': {fault['msg']}.", kind  # our own checks name their code


def _out_of_range(kind: str, context: Mapping[str, Any], seen: object, param: str) -> tuple[str, str]:
    (bound,) = (context[key] for key in ("gt", "ge", "lt", "le") if key in context)
    number = "integer" if isinstance(bound, int) else "decimal"
    side, sign = ("below minimum", _BELOW[kind]) if kind in _BELOW else ("above maximum", _ABOVE[kind])
    message = f"Invalid '{param}': {number} {side} value. Expected a value {sign} {bound:g}, but got {seen} instead."
    return message, f"{number}_{'below_min' if kind in _BELOW else 'above_max'}_value"


def _bad_length(kind: str, context: Mapping[str, Any], param: str) -> tuple[str, str]:
    noun = "string" if kind.startswith("string") else "array"
    if "min_length" in context:
        least = context["min_length"]
        code = f"empty_{noun}" if least == 1 else f"{noun}_below_min_length"
        return f"Invalid '{param}': {noun} too short. Expected a minimum length of {least}.", code
    most = context["max_length"]
    return f"Invalid '{param}': {noun} too long. Expected a maximum length of {most}.", f"{noun}_above_max_length"


def _shown(value: object) -> str:
    """As Python writes it, but a text of megabytes is not sent back."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
        dict: "an object",
        bytes: "something that is not declared as application/json",
    }
    return "null" if value is None else names.get(type(value), "something else")
