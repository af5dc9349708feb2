"""Parsing JSON from clients, stricter than the standard library."""

import json
from typing import Any


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON may be anything
    """Parse JSON.

    JSON can contain half of a surrogate pair, which is not a character: tokenizers and answers cannot represent it.

    Raises:
        ValueError: the text is not UTF-8 or not valid JSON, is nested too deeply, or contains half of a surrogate pair.
    """
    try:
        value = json.loads(text.decode())  # of bytes, Python would also read UTF-16 and UTF-32
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a surrogate pair, which is not a character") from error
    return value
