"""A vocabulary's tokens as bytes, one at a time: a token may hold but a part of a character.

llguidance knows them all too, but first takes seconds to read 262,144 words; most answers need a handful.
"""

import json
import re
from functools import cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a byte that is no word
SPACE = "\u2581"  # how it writes a space


class TokenBytes:
    """Raises: ValueError: the tokenizer's decoder is of another kind than the two that nearly all models have."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers ships no types
        self._words = tokenizer.backend_tokenizer
        self._added = set(tokenizer.added_tokens_decoder)
        decoder = json.loads(self._words.decoder.__getstate__())
        kinds = {part["type"] for part in decoder.get("decoders", [decoder])}
        if not kinds & {"ByteLevel", "ByteFallback"}:
            raise ValueError(f"decoders {', '.join(sorted(kinds))} are not known")
        self._byte_level = "ByteLevel" in kinds

    def __call__(self, token: int) -> bytes:
        word = self._words.id_to_token(token) or ""  # the matrix may have more rows than the vocabulary words
        if token in self._added:
            return str(word).encode()
        if self._byte_level:
            return bytes(_bytes_of_letters()[letter] for letter in word)
        if byte := BYTE.fullmatch(word):
            return bytes.fromhex(byte[1])
        return str(word.replace(SPACE, " ")).encode()


@cache
def _bytes_of_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in bytes_to_unicode().items()}
