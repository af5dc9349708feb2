"""JSON schemas whose answers end: a small model may write digits or list items for ever.

JSON allows numbers of any length and lists without an end. A bounded schema allows the same values except for numbers
with more digits than anybody needs (bounded_numbers), and longer lists.
"""

from collections.abc import Mapping
from typing import Any

from reviewtune.local_server.engine.generation.bounded_numbers import KEYWORDS, bounded_number

ITEMS = 100
NUMBERS = frozenset({"number", "integer"})
COMMENTS = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"})
NAMED = "properties", "patternProperties", "$defs", "definitions"  # keywords with a schema per name
LISTED = "anyOf", "allOf", "oneOf", "prefixItems"
SINGLE = "items", "additionalProperties"
ANY = "reviewtune-any"  # the definition of a bounded value of any type

OPEN = "additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "if", *LISTED  # must not be closed
Schema = Mapping[str, Any]


def closed(schema: Schema) -> dict[str, Any]:
    """The schema without properties that it does not name: a small model would go on inventing some.

    Objects that are parts of others, or that are any object, stay open.
    """
    result = dict(schema)
    for keyword in NAMED:
        if isinstance(named := schema.get(keyword), Mapping):
            result[keyword] = {
                name: closed(part) if isinstance(part, Mapping) else part for name, part in named.items()
            }
    if isinstance(items := schema.get("items"), Mapping):
        result["items"] = closed(items)
    if isinstance(parts := schema.get("anyOf"), list):
        result["anyOf"] = [closed(part) if isinstance(part, Mapping) else part for part in parts]
    if "properties" in schema and not schema.keys() & set(OPEN):
        result |= {"additionalProperties": False, "required": schema.get("required", [])}
    return result


def bounded(schema: Schema) -> dict[str, Any]:
    """The schema with bounds where it has none.

    Raises:
        UnsupportedSchema: a keyword about numbers has a value that is not supported.
    """
    result = _bounded(schema)
    if result.get("type") == "object" and not result.keys() & {"properties", "additionalProperties"}:  # JSON mode
        result["additionalProperties"] = {"$ref": f"#/$defs/{ANY}"}
    if ANY not in result.get("$defs", {}) and _refers_to_any(result):
        result["$defs"] = {**result.get("$defs", {}), ANY: _any_value()}
    return result


def _refers_to_any(part: object) -> bool:
    if isinstance(part, Mapping):
        return part.get("$ref") == f"#/$defs/{ANY}" or any(map(_refers_to_any, part.values()))
    return isinstance(part, list) and any(map(_refers_to_any, part))


def _bounded(schema: Schema) -> dict[str, Any]:
    result = dict(schema)
    for keyword in NAMED:
        if isinstance(named := schema.get(keyword), Mapping):
            result[keyword] = {name: _bounded_part(part) for name, part in named.items()}
    for keyword in LISTED:
        if isinstance(parts := schema.get(keyword), list):
            result[keyword] = [_bounded_part(part) for part in parts]
    for keyword in SINGLE:
        if keyword in schema:
            result[keyword] = _bounded_part(schema[keyword])
    return _with_numbers(result) | _length(schema)


def _bounded_part(part: Any) -> Any:  # noqa: ANN401 - a schema may be a boolean
    if part is True or (isinstance(part, Mapping) and part.keys() <= COMMENTS):  # any value
        return {**(part if isinstance(part, Mapping) else {}), "$ref": f"#/$defs/{ANY}"}
    return _bounded(part) if isinstance(part, Mapping) else part


def _types(schema: Schema) -> list[str]:
    named = schema.get("type")
    return [named] if isinstance(named, str) else list(named) if isinstance(named, list) else []


def _length(schema: Schema) -> dict[str, int]:
    """The bound of a list."""
    if "array" not in _types(schema) or "maxItems" in schema:
        return {}
    least = schema.get("minItems", 0)
    return {"maxItems": max(ITEMS, least) if isinstance(least, int) else ITEMS}


def _with_numbers(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with bounded numbers; several alternatives, if large ones have fewer decimals."""
    types = _types(schema)
    kind = next((name for name in ("number", "integer") if name in types), None)
    if kind is None or schema.keys() & {"enum", "const"}:
        return schema
    parts: list[Schema] = [*bounded_number(kind, schema)]
    if others := [name for name in types if name not in NUMBERS]:
        parts.append({"type": others})
    rest = {name: value for name, value in schema.items() if name not in {*KEYWORDS, "type"}}
    if len(parts) == 1:
        return rest | dict(parts[0])
    return rest | ({"anyOf": parts} if "anyOf" not in rest else {"allOf": [*rest.get("allOf", []), {"anyOf": parts}]})


def _any_value() -> dict[str, Any]:
    value = {"$ref": f"#/$defs/{ANY}"}
    types: list[Schema] = [{"type": name} for name in ("string", "number", "boolean", "null")]
    types += [{"type": "array", "items": value}, {"type": "object", "additionalProperties": value}]
    return {"anyOf": [_bounded(part) for part in types]}
