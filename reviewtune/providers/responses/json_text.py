"""JSON as servers write it: with a byte order mark, with half of a surrogate pair, or with a byte that is not UTF-8."""

import json

import openai
import pydantic_core


class UnreadableError(openai.OpenAIError):
    """The body of a response is not what was asked for; the message says what it is.

    The openai client passes its own errors on without a retry, and takes any other for a lost connection.

    Args:
        message: what the body is instead.
        garbled: the body is not JSON, as after a fault on the way; otherwise the server meant what it sent.
    """

    def __init__(self, message: str, *, garbled: bool = False) -> None:
        super().__init__(message)
        self.garbled = garbled


class ErrorBodyError(UnreadableError):
    """The body is an error object although the HTTP status is 200.

    Args:
        words: what the server says.
        status: the HTTP status that the object names; 200 if it names none.
        error: the error object.
    """

    def __init__(self, words: str, *, status: int, error: object) -> None:
        super().__init__(f"HTTP 200 with an error: {words}")
        self.status, self.error = status, error


def read_json(content: bytes) -> object:
    """The value of a JSON text.

    Raises:
        UnreadableError: the text is not valid JSON, or nested too deeply.
    """
    try:
        return pydantic_core.from_json(content)
    except ValueError:
        return _read_leniently(content)


def plain_text(text: str) -> str:
    """The text with half of a surrogate pair replaced by U+FFFD, as it cannot be written as UTF-8."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_leniently(content: bytes) -> object:
    try:
        return json.loads(content.decode("utf-8-sig", "replace"))
    except RecursionError as error:
        raise UnreadableError("JSON that is nested too deeply") from error
    except ValueError as error:
        start = repr(content[:60].decode("utf-8", "replace")) if content else "an empty body"
        raise UnreadableError(f"what is not valid JSON: {start}", garbled=True) from error
