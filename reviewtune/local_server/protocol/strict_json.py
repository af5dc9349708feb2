"""JSON from outside, read so that nothing later stumbles over it."""

import json
from typing import Any


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON may be anything
    """The value. Raises ValueError for what is not JSON, is nested beyond reason, or is no text.

    JSON can spell half of a surrogate pair, which is no character: no tokenizer takes it, and no answer can carry it.
    """
    try:
        value = json.loads(text)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a surrogate pair, which is no character") from error
    return value
