"""Finds the calls of functions in what a model writes, also while it writes."""

import json

from reviewtune.local_server.engine.tool_format import ToolFormat
from reviewtune.local_server.engine.types import ToolCall

Answer = tuple[str, tuple[ToolCall, ...]]  # text, and calls after it


class CallReader:
    """Separates text and calls of answers in one format."""

    def __init__(self, form: ToolFormat) -> None:
        self._form = form

    def complete(self, text: str) -> Answer:
        """Text and calls of an answer that has ended; of a call that was cut off, what is there of its arguments."""
        return self._read(text) or (text, ())

    def so_far(self, text: str) -> Answer:
        """The same of an answer that goes on; what may be the beginning of a call is held back."""
        if (answer := self._read(text)) is not None:
            return answer
        form = self._form
        if not form.trigger:
            return ("", ()) if form.begin.startswith(text) else (text, ())
        begins = (form.trigger, f"{form.after_text or ''}{form.trigger}")
        return text[: min(settled_length(text, begin) for begin in begins)], ()

    def _read(self, text: str) -> Answer | None:
        """Text and calls, or None if there is no call."""
        form = self._form
        at = text.find(form.trigger) if form.trigger else 0 if text.startswith(form.begin) else -1
        if at < 0:
            return None
        return text[:at].removesuffix(form.after_text or ""), self._calls(text[at:])

    def _calls(self, text: str) -> tuple[ToolCall, ...]:
        calls: list[ToolCall] = []
        while text.startswith(self._form.begin):
            name, named, rest = text.removeprefix(self._form.begin).partition(self._form.middle)
            if not named:
                break
            length = _object_length(rest)
            calls.append(ToolCall(name, rest[:length]))
            text = rest[length:].removeprefix(self._form.end).removeprefix(self._form.between or "")
        return tuple(calls)


def _object_length(text: str) -> int:
    """The length of the JSON object at the beginning of a text; all of it if the object is not complete."""
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except ValueError:
        return len(text)


def settled_length(text: str, stop: str) -> int:
    """The length of a text without an end that may be the beginning of a stop text."""
    begins = (len(text) - size for size in range(min(len(stop) - 1, len(text)), 0, -1))
    return next((at for at in begins if stop.startswith(text[at:])), len(text))
