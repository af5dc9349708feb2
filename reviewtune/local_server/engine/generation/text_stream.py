"""Reports an answer's text while it is generated."""

import codecs
from collections.abc import Sequence

from reviewtune.local_server.engine.generation.call_reader import CallReader, settled_length
from reviewtune.local_server.engine.types import Listener, Progress, TokenLogprob


class TextStream:
    """Reports only final text: no incomplete character, and nothing that may be the beginning of a stop text.

    With a reader for calls also nothing that may be the beginning of one.
    """

    def __init__(self, listener: Listener, choice: int, stops: Sequence[str], reader: CallReader | None = None) -> None:
        self.reported = 0  # tokens
        self._reader = reader
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
        text = self._final_text()
        text, calls = self._reader.so_far(text) if self._reader else (text, ())
        self._listener(Progress(self._choice, text, tuple(logprobs), calls))

    def _final_text(self) -> str:
        text = self._text
        for stop in self._stops:
            text = text.partition(stop)[0]
        return text[: min((settled_length(text, stop) for stop in self._stops), default=len(text))]
