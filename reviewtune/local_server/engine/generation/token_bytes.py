"""The bytes of single tokens, because a token may contain only a part of a character.

llguidance can do this too, but first takes seconds to read 262,144 tokens, and most answers need only a few.
"""

import json
import re
from functools import cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a byte that is not part of a token
SPACE = "\u2581"  # how SentencePiece writes a space


class TokenBytes:
    """Converts a tokenizer's token ids to bytes, for the two kinds of decoders that nearly all models have.

    Raises:
        ValueError: the tokenizer has another kind of decoder.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers ships no types
        self._backend = tokenizer.backend_tokenizer
        self._added = set(tokenizer.added_tokens_decoder)
        decoder = json.loads(self._backend.decoder.__getstate__())
        kinds = {part["type"] for part in decoder.get("decoders", [decoder])}
        if not kinds & {"ByteLevel", "ByteFallback"}:
            raise ValueError(f"decoders of these kinds are not supported: {', '.join(sorted(kinds))}")
        self._byte_level = "ByteLevel" in kinds

    def __call__(self, token: int) -> bytes:
        text = self._backend.id_to_token(token) or ""  # the output matrix may have more rows than the vocabulary tokens
        if token in self._added:
            return str(text).encode()
        if self._byte_level:
            return bytes(_bytes_of_letters()[letter] for letter in text)
        if byte := BYTE.fullmatch(text):
            return bytes.fromhex(byte[1])
        return str(text.replace(SPACE, " ")).encode()


@cache
def _bytes_of_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in bytes_to_unicode().items()}
