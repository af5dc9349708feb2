"""Every token of the bundled models has the same bytes as in llguidance."""

import pytest
from llguidance.hf import from_tokenizer
from transformers import AutoTokenizer

from reviewtune.local_server.engine.generation.token_bytes import TokenBytes
from tests.support.engine_models import real

pytestmark = pytest.mark.model
BYTE_FF = 493  # Gemma's <0xFF>, which no text contains: llguidance uses it as a marker and gives it no bytes


@pytest.mark.parametrize(("name", "exceptions"), [("smollm2-135m-instruct", set()), ("gemma-3-270m", {BYTE_FF})])
def test_every_token_has_the_bytes_of_llguidance(name: str, exceptions: set[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real(name))
    token_bytes, vocabulary = TokenBytes(tokenizer), from_tokenizer(tokenizer, len(tokenizer))
    differing = {
        token for token in range(len(tokenizer)) if token_bytes(token) != bytes(vocabulary.decode_bytes([token]))
    }
    assert differing == exceptions
    assert token_bytes(len(tokenizer)) == b""


def test_another_kind_of_decoder_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="WordPiece"):
        TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend))
