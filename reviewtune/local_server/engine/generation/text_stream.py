"""An answer told while it grows."""

import codecs
from collections.abc import Sequence

from reviewtune.local_server.engine.types import Listener, TokenLogprob


class TextStream:
    """Tells only what will stay: no half character, nothing that may yet turn out to be a stop text."""

    def __init__(self, listener: Listener, choice: int, stops: Sequence[str]) -> None:
        self.told = 0  # tokens
        self._listener, self._choice, self._stops = listener, choice, stops
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""

    def tell(self, spelling: bytes, tokens: int, logprobs: Sequence[TokenLogprob]) -> None:
        """Go on with the spelling of the tokens since the last time; `tokens` counts from the beginning."""
        self.told = tokens
        self._text += self._decoder.decode(spelling)
        self._listener(self._choice, self._sure(), tuple(logprobs))

    def _sure(self) -> str:
        text = self._text
        for stop in self._stops:
            text = text.partition(stop)[0]
        return text[: min((_safe(text, stop) for stop in self._stops), default=len(text))]


def _safe(text: str, stop: str) -> int:
    """How much of a text does not begin a stop at its end."""
    begins = (len(text) - size for size in range(min(len(stop) - 1, len(text)), 0, -1))
    return next((at for at in begins if stop.startswith(text[at:])), len(text))
