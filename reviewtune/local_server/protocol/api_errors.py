"""Error responses in OpenAI's shape, `{"error": {message, type, param, code}}`, and with OpenAI's codes.

Routes raise ApiError. `from_faults` translates pydantic's faults, for HTTP requests and for the lines of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from pydantic import ValidationError

Fault = Mapping[str, Any]  # one entry of pydantic's ValidationError.errors()

SHOWN = 100  # characters of a wrong value in a message
_BELOW = {"greater_than": ">", "greater_than_equal": ">="}
_ABOVE = {"less_than": "<", "less_than_equal": "<="}
_OBJECTS = ("model_type", "model_attributes_type", "dict_type")
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
    """An error response: status 400 or higher, OpenAI's message, parameter and code."""

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
        """The response's JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


def server_error(message: str) -> ApiError:
    """Status 500."""
    return ApiError(500, message, type_="server_error", code="internal_error")


def disk_full(folder: object) -> ApiError:
    """Status 507, for which a client need not send everything again at once."""
    message = f"The disk of {folder} is full: free some space, and send the request again."
    error = ApiError(507, message, type_="server_error", code="disk_full")
    error.headers = {"x-should-retry": "false"}
    return error


def from_faults(faults: Sequence[Fault], body: object) -> ApiError:
    """The error for the first wrong parameter.

    Args:
        faults: pydantic's faults. For a union there is one per branch; the branch that matched furthest is reported.
        body: the request's body.
    """
    if faults[0]["type"] == "json_invalid":
        return ApiError(400, "We could not parse the JSON body of your request: it is not valid JSON.")
    params = [(_param(fault, body), fault) for fault in faults]
    if params[0] == ("", faults[0]) and faults[0]["type"] == "missing":
        return ApiError(400, "The request has no body: send a JSON object, declared as application/json.")
    param, fault = _furthest(params)
    message, code = _reason(fault, param)
    return ApiError(400, message, param=param or None, code=code)


def _furthest(params: Sequence[tuple[str, Fault]]) -> tuple[str, Fault]:
    """The fault of the branch of a union that matched furthest, with its parameter."""
    first, inside = params[0][0], list(params)
    while first and (deeper := [entry for entry in inside if entry[0].startswith((f"{first}.", f"{first}["))]):
        first, inside = deeper[0][0], deeper
    own = [entry for entry in inside if entry[0] == first]
    if first != params[0][0] or all(fault["type"] in ("literal_error", *_OBJECTS) for _, fault in own):
        return own[0]  # a word is expected, or an object: the list of words says more
    return own[-1]


def from_validation(error: ValidationError, body: object) -> ApiError:
    """The same as `from_faults` for a value that is not a request's body, such as a line of a batch."""
    faults = error.errors(include_url=False)
    return from_faults([{**fault, "loc": ("body", *fault["loc"])} for fault in faults], body)


def _param(fault: Fault, body: object) -> str:
    """The parameter's name: `messages[0].role` from ("body", "messages", 0, "role"), without the tags of unions."""
    if "param" in fault.get("ctx", {}):  # our own check across several parameters names the parameter itself
        return str(fault["ctx"]["param"])
    name, value = "", body
    for position, step in enumerate(fault["loc"]):
        absent = fault["type"] == "missing" and position == len(fault["loc"]) - 1
        if position == 0 and step in ("body", "query", "path", "header"):
            value = None if step != "body" else body
            name = "" if step == "body" else str(fault["loc"][-1])
        elif isinstance(step, int) and isinstance(value, list):
            name, value = f"{name}[{step}]", value[step]
        elif isinstance(value, Mapping) and (step in value or absent):
            name, value = f"{name}.{step}" if name else str(step), value.get(step)
        elif absent and not name:
            name = str(step)
    if fault["type"].startswith("union_tag"):
        name += "." + fault["ctx"]["discriminator"].strip("'")
    if field := fault.get("ctx", {}).get("field"):  # our own check of an object names the field in it
        name = f"{name}.{field}" if name else field
    return name


def _reason(fault: Fault, param: str) -> tuple[str, str]:
    """Message and code of a fault."""
    kind, context, value = fault["type"], fault.get("ctx", {}), fault.get("input")
    if kind in ("missing", "union_tag_not_found"):
        return f"Missing required parameter: '{param}'.", "missing_required_parameter"
    if kind == "extra_forbidden":
        return f"Unknown parameter: '{param}'.", "unknown_parameter"
    if kind == "literal_error":
        return f"Invalid value: {_shown(value)}. Supported values are: {context['expected']}.", "invalid_value"
    if kind == "union_tag_invalid":
        return (
            f"Invalid value: {_shown(context['tag'])}. Supported values are: {context['expected_tags']}.",
            "invalid_value",
        )
    if kind in _BELOW | _ABOVE:
        return _out_of_range(kind, context, value, param)
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        return _bad_length(kind, context, param)
    if kind == "string_pattern_mismatch":
        return f"Invalid '{param}': string does not match the pattern {context['pattern']}.", "invalid_value"
    if kind in _EXPECTED:
        what = f"'{param}'" if param else "the request body"
        return (
            f"Invalid type for {what}: expected {_EXPECTED[kind]}, but got {_type_name(value)} instead.",
            "invalid_type",
        )
    return f"Invalid '{param}': {fault['msg']}.", kind  # our own checks use their code as the type


def _out_of_range(kind: str, context: Mapping[str, Any], value: object, param: str) -> tuple[str, str]:
    (bound,) = (context[key] for key in ("gt", "ge", "lt", "le") if key in context)
    number = "integer" if isinstance(bound, int) else "decimal"
    side, sign = ("below minimum", _BELOW[kind]) if kind in _BELOW else ("above maximum", _ABOVE[kind])
    message = f"Invalid '{param}': {number} {side} value. Expected a value {sign} {bound:g}, but got {value} instead."
    return message, f"{number}_{'below_min' if kind in _BELOW else 'above_max'}_value"


def _bad_length(kind: str, context: Mapping[str, Any], param: str) -> tuple[str, str]:
    noun = "string" if kind.startswith("string") else "array"
    if "min_length" in context:
        minimum = context["min_length"]
        code = f"empty_{noun}" if minimum == 1 else f"{noun}_below_min_length"
        return f"Invalid '{param}': {noun} too short. Expected a minimum length of {minimum}.", code
    maximum = context["max_length"]
    return f"Invalid '{param}': {noun} too long. Expected a maximum length of {maximum}.", f"{noun}_above_max_length"


def _shown(value: object) -> str:
    """The value as Python writes it, cut off so that megabytes are not sent back."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _type_name(value: object) -> str:
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
