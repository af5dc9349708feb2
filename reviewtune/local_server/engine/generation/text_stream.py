"""Reports an answer's text while it is generated."""

import codecs
from collections.abc import Sequence

from reviewtune.local_server.engine.types import Listener, TokenLogprob


class TextStream:
    """Reports only final text: no incomplete character, and nothing that may be the beginning of a stop text."""

    def __init__(self, listener: Listener, choice: int, stops: Sequence[str]) -> None:
        self.reported = 0  # tokens
        self._listener, self._choice, self._stops = listener, choice, stops
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""

    def report(self, new_bytes: bytes, tokens: int, logprobs: Sequence[TokenLogprob]) -> None:
        """Report progress to the listener.

        Args:
            new_bytes: the bytes of the tokens since the last call.
            tokens: the number of tokens of the answer so far.
            logprobs: their log-probabilities.
        """
        self.reported = tokens
        self._text += self._decoder.decode(new_bytes)
        self._listener(self._choice, self._final_text(), tuple(logprobs))

    def _final_text(self) -> str:
        text = self._text
        for stop in self._stops:
            text = text.partition(stop)[0]
        return text[: min((_final_length(text, stop) for stop in self._stops), default=len(text))]


def _final_length(text: str, stop: str) -> int:
    """The length of a text without an end that may be the beginning of a stop text."""
    begins = (len(text) - size for size in range(min(len(stop) - 1, len(text)), 0, -1))
    return next((at for at in begins if stop.startswith(text[at:])), len(text))
