"""Make the objects of an account sound: files, jobs, events, checkpoints, batches and models.

The openai client does not check what a server sends: a missing field is a missing attribute, and a text in the place of
a time is a text. Here each field of the client's own types gets a value of its type: the server's if it can be read,
otherwise null, 0 or empty. An object without an id is left out of a list.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import unquote

from openai.types import Batch, FileObject, Model
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel, TypeAdapter, ValidationError

from reviewtune.providers.responses.json_text import UnreadableError, plain_text
from reviewtune.providers.responses.server_words import words_of

Json = dict[str, Any]


class Route(NamedTuple):
    """What an address returns: `kind` objects, at the end of whose path is `name`."""

    name: str
    kind: type[BaseModel]
    required: str = "id"  # an object without this text cannot be used


ROUTES = (
    (re.compile(r"/fine_tuning/jobs/[^/]+/events/?$"), Route("events", FineTuningJobEvent)),
    (
        re.compile(r"/fine_tuning/jobs/[^/]+/checkpoints/?$"),
        Route("checkpoints", FineTuningJobCheckpoint, required="fine_tuned_model_checkpoint"),
    ),
    (re.compile(r"/fine_tuning/jobs(/[^/]+(/(cancel|pause|resume))?)?/?$"), Route("jobs", FineTuningJob)),
    (re.compile(r"/files(/[^/]+)?/?$"), Route("files", FileObject)),
    (re.compile(r"/batches(/[^/]+(/cancel)?)?/?$"), Route("batches", Batch)),
    (re.compile(r"/models(/[^/]+)?/?$"), Route("models", Model)),
)
NOT_ZERO = ("seed",)  # null if it is missing, although the client's type has no null here: 0 is a seed
MOST_INTEGER = 253_402_300_799  # the last second of the year 9999; a larger number is neither a time nor a count


def route_of(path: str) -> Route | None:
    """The kind of object at this path of a server; None for paths that hold something else."""
    return next((route for pattern, route in ROUTES if pattern.search(path)), None)


def sound_body(body: object, *, method: str, path: str, after: str | None = None) -> Json:
    """The body of a successful response, with sound objects.

    Args:
        body: the JSON value that the server sent.
        method: of the request.
        path: of the request.
        after: the last id of the page before, if the request asks for the page that follows it.

    Raises:
        UnreadableError: the body is not the object or list that was asked for.
    """
    route = route_of(path)
    if route is None:
        return body if isinstance(body, dict) else {}
    last = path.rstrip("/").rpartition("/")[2]
    if method == "GET" and last == route.name:
        return _sound_page(body, route, after)
    item = _sound_item(body, route, identity=_identity_in(path, route))
    if item is None:
        raise UnreadableError(f"no {route.kind.__name__} with an id: {words_of(body) or 'an empty body'}")
    return item


def _sound_page(body: object, route: Route, after: str | None) -> Json:
    if isinstance(body, list):
        body = {"data": body}
    if not isinstance(body, dict) or not isinstance(body.get("data", []), list | NoneType):
        raise UnreadableError(f"no list of {route.name}: {words_of(body) or 'an empty body'}")
    if "data" not in body and "error" in body:
        raise UnreadableError(words_of(body))
    items = [item for value in body.get("data") or [] if (item := _sound_item(value, route))]
    if after is not None and any(item.get("id") == after for item in items):
        items = []  # the server ignores `after` and sends its first page for ever
    more = bool(items) and body.get("has_more") is not False  # without the field, the next page tells
    return {**body, "object": "list", "data": items, "has_more": more}


def _sound_item(value: object, route: Route, identity: str | None = None) -> Json | None:
    """The object with a sound value for each field; None if it is not certain which object it is."""
    if not isinstance(value, dict):
        return None
    item = _sound_fields(route.kind, value)
    if identity and route.name != "models":  # a server may answer a model's alias with its full name
        item["id"] = identity
    if route.required == "id" and not item["id"]:
        item["id"] = identity or (_content_id(value) if route.name == "events" else "")
    return item if item[route.required] else None


def _identity_in(path: str, route: Route) -> str | None:
    """The id in the path of a request for one object. The object keeps it, whatever the answer says."""
    match = re.search(rf"/{route.name}/([^/]+)(/(cancel|pause|resume))?/?$", path)
    return unquote(match[1]) if match else None


def _content_id(value: Mapping[str, object]) -> str:
    """An id for an event without one, so that no event is taken for another."""
    return "event-" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _sound_fields(kind: type[BaseModel], value: Mapping[str, Any]) -> Json:
    fields = {
        field.alias or name: _sound(field.annotation, value.get(field.alias or name))
        for name, field in kind.model_fields.items()
    }
    unknown = {name: None for name in NOT_ZERO if name in fields and value.get(name) is None}
    return {**value, **fields, **unknown}


def _sound(annotation: Any, value: object) -> Any:  # noqa: ANN401 - the type of any field and its value
    """The value as this type, or else the type's empty value."""
    read = _read(annotation, value)
    return _empty(annotation) if read is None else read


def _read(annotation: Any, value: object) -> Any:  # noqa: ANN401
    """The value as this type, perhaps with parts of it missing; None if it is something else."""
    origin, options = get_origin(annotation), get_args(annotation)
    if annotation is NoneType or value is None:
        return None
    if origin is Annotated:
        return _read(options[0], value)
    if origin in (Union, UnionType):
        return next((read for option in options if (read := _read(option, value)) is not None), None)
    if origin is list:
        return _parts(options[0], value) if isinstance(value, list) else None
    if origin is dict:
        return _entries(options[1], value) if isinstance(value, dict) else None
    if origin is Literal:
        return value if isinstance(value, str) else None  # statuses that the type does not list are passed on
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _sound_fields(annotation, value) if isinstance(value, dict) else None
    return _read_plain(annotation, value)


def _parts(annotation: Any, values: list[object]) -> list[Any]:  # noqa: ANN401
    return [read for value in values if (read := _read(annotation, value)) is not None]


def _entries(annotation: Any, values: Json) -> Json:  # noqa: ANN401
    return {name: read for name, value in values.items() if (read := _read(annotation, value)) is not None}


def _read_plain(annotation: Any, value: object) -> Any:  # noqa: ANN401
    if annotation is str:
        return plain_text(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if annotation not in (int, float, bool):
        return value  # `object` and Any
    with suppress(ValidationError, OverflowError):
        number = _adapter(annotation).validate_python(value)
        in_range = 0 <= number <= MOST_INTEGER if annotation is int else math.isfinite(number)
        return number if in_range else None
    return None


def _empty(annotation: Any) -> Any:  # noqa: ANN401
    """The value of a field that is missing: null if the type allows it."""
    origin, options = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return None if NoneType in options else _empty(options[0])
    if origin in (Annotated, list, dict):
        return _empty(options[0]) if origin is Annotated else origin()
    if origin is Literal:
        return ""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _sound_fields(annotation, {})
    return annotation() if annotation in (str, int, float, bool) else None


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:  # noqa: ANN401
    return TypeAdapter(annotation)
