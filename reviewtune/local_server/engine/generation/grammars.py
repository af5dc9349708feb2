"""Grammars of JSON schemas, compiled by llguidance."""

from typing import Any

from llguidance import LLMatcher, LLTokenizer

from reviewtune.local_server.engine.generation.bounded_schemas import bounded, closed
from reviewtune.local_server.engine.types import UnsupportedSchema

LIKE_PYTHON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # the format of json.dumps


def bounded_grammar(schema: dict[str, Any], vocabulary: LLTokenizer) -> LLMatcher:
    """Compile a JSON schema, with bounds where it has none, and without properties that it does not name.

    Raises:
        UnsupportedSchema: the schema cannot be compiled; the message gives the reason.
    """
    return _bounded(schema, vocabulary)[1]


def bounded_schema(schema: dict[str, Any], vocabulary: LLTokenizer) -> dict[str, Any]:
    """What `bounded_grammar` compiles, as a part of a larger grammar.

    Raises:
        UnsupportedSchema: the schema cannot be compiled; the message gives the reason.
    """
    return _bounded(schema, vocabulary)[0]


def _bounded(schema: dict[str, Any], vocabulary: LLTokenizer) -> tuple[dict[str, Any], LLMatcher]:
    """The bounded schema, unless what was added contradicts the rest of it; and its grammar."""
    narrower = bounded(closed(schema))
    try:
        return narrower, compiled_schema(narrower, vocabulary)
    except UnsupportedSchema:  # also if both have a fault: the message must be about the client's schema
        return schema, compiled_schema(schema, vocabulary)


def compiled_schema(schema: dict[str, Any], vocabulary: LLTokenizer) -> LLMatcher:
    """Compile a JSON schema as it is.

    Raises:
        UnsupportedSchema: it cannot be compiled; the message gives the reason.
    """
    try:
        matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_json_schema(schema, defaults=LIKE_PYTHON))
    except ValueError as error:
        raise UnsupportedSchema(str(error)) from error
    if matcher.is_error():
        raise UnsupportedSchema(matcher.get_error())
    return matcher
