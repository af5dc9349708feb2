"""JSON schemas whose answers end: a small model may write digits or list items for ever.

JSON allows numbers of any length and lists without an end. A bounded schema allows the same values except for numbers
with more digits than anybody needs, and longer lists.
"""

from collections.abc import Mapping
from typing import Any

LARGEST = 10**15  # numbers up to it are exact in every program
DECIMALS = 1e-6
ITEMS = 100
NUMBERS = frozenset({"number", "integer"})
NAMED = "properties", "patternProperties", "$defs", "definitions"  # keywords with a schema per name
LISTED = "anyOf", "allOf", "oneOf", "prefixItems"
SINGLE = "items", "additionalProperties", "not"
ANY = "reviewtune-any"  # the definition of a bounded value of any type

Schema = Mapping[str, Any]


def bounded(schema: Schema) -> dict[str, Any]:
    """The schema with bounds where it has none."""
    result = _bounded(schema)
    if result.get("type") == "object" and not result.keys() & {"properties", "additionalProperties"}:  # JSON mode
        result["additionalProperties"] = {"$ref": f"#/$defs/{ANY}"}
        result["$defs"] = {**result.get("$defs", {}), ANY: _any_value()}
    return result


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
    return result | _bounds(schema)


def _bounded_part(part: Any) -> Any:  # noqa: ANN401 - a schema may be a boolean
    return _bounded(part) if isinstance(part, Mapping) else part


def _bounds(schema: Schema) -> dict[str, Any]:
    """The keywords to add."""
    named = schema.get("type")
    types = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else set()
    bounds: dict[str, Any] = {}
    if types & NUMBERS and not schema.keys() & {"enum", "const"}:
        bounds |= {"multipleOf": DECIMALS} if "number" in types and "multipleOf" not in schema else {}
        bounds |= _range(schema)
    if "array" in types and "maxItems" not in schema:
        bounds["maxItems"] = max(ITEMS, schema.get("minItems", 0))
    return bounds


def _range(schema: Schema) -> dict[str, int]:
    lower, upper = ({f"{side}imum", f"exclusive{side.title()}imum"} for side in ("min", "max"))
    bounds = {}
    if not schema.keys() & upper and all(schema.get(keyword, 0) < LARGEST for keyword in lower):
        bounds["maximum"] = LARGEST
    if not schema.keys() & lower and all(schema.get(keyword, 0) > -LARGEST for keyword in upper):
        bounds["minimum"] = -LARGEST
    return bounds


def _any_value() -> dict[str, Any]:
    value = {"$ref": f"#/$defs/{ANY}"}
    types: list[Schema] = [{"type": name} for name in ("string", "number", "boolean", "null")]
    types += [{"type": "array", "items": value}, {"type": "object", "additionalProperties": value}]
    return {"anyOf": [_bounded(part) for part in types]}
