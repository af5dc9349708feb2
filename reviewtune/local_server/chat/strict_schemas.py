"""OpenAI's rules for a `strict` JSON schema: the root is an object, objects are closed, properties are required."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 200  # steps into a schema; OpenAI allows ten objects

Schema = Mapping[str, Any]


def fault_of(schema: Schema) -> str | None:
    """The first violation of the rules, in OpenAI's words, or None."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return "schema must be of type 'object' at its root."
    try:
        return next((fault for path, part in _parts(schema, ()) if (fault := _fault(path, part))), None)
    except RecursionError as error:
        return str(error)


def _parts(schema: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """A schema and all schemas inside it, each with its path."""
    if not isinstance(schema, Mapping):
        return
    if len(path) > MAX_DEPTH:
        raise RecursionError("schema is nested too deeply.")
    yield path, schema
    for keyword in ("properties", "$defs", "definitions"):
        for name, part in _items(schema.get(keyword)):
            yield from _parts(part, (*path, keyword, name))
    yield from _parts(schema.get("items"), (*path, "items"))
    for keyword in ("anyOf", "allOf", "oneOf", "prefixItems"):
        branches = schema.get(keyword)
        for index, part in enumerate(branches if isinstance(branches, list) else []):
            yield from _parts(part, (*path, keyword, str(index)))


def _items(named: object) -> Iterator[tuple[str, Any]]:
    yield from named.items() if isinstance(named, Mapping) else ()


def _fault(path: tuple[str, ...], part: Schema) -> str | None:
    types = part.get("type")
    is_object = types == "object" or (isinstance(types, list) and "object" in types) or "properties" in part
    if not is_object:
        return None
    where = f"In context={path!r}, "
    if part.get("additionalProperties") is not False:
        return where + "'additionalProperties' is required to be supplied and to be false."
    names = [name for name, _ in _items(part.get("properties"))]
    required = part.get("required")
    missing = [name for name in names if not isinstance(required, list) or name not in required]
    if missing:
        return where + f"'required' is required to include every key in properties. Missing '{missing[0]}'."
    return None
