"""Parsing JSON from clients, stricter than the standard library."""

import json
from collections.abc import Iterable
from typing import Any

MOST_LEVELS = 500
"""Of nesting. What Python itself can read depends on how deep its own calls are, so that two calls may differ."""


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON may be anything
    """Parse JSON.

    JSON can contain half of a surrogate pair, which is not a character: tokenizers and answers cannot represent it.

    Raises:
        ValueError: the text is not UTF-8 or not valid JSON, is nested too deeply, or contains half of a surrogate pair.
    """
    try:
        value = json.loads(text.decode())  # of bytes, Python would also read UTF-16 and UTF-32
        if text.count(b"[") + text.count(b"{") > MOST_LEVELS and _levels(value) > MOST_LEVELS:
            raise RecursionError
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a surrogate pair, which is not a character") from error
    return value


def _levels(value: object) -> int:
    """How deeply lists and objects are nested."""
    levels, inside = 0, [value]
    while inside := [part for whole in inside for part in _parts(whole)]:
        levels += 1
    return levels


def _parts(whole: object) -> Iterable[object]:
    """The values in a list or an object."""
    if isinstance(whole, dict):
        return whole.values()
    return whole if isinstance(whole, list) else ()
