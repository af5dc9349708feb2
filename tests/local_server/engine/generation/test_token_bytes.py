"""Every token of the bundled models is spelt as llguidance spells it."""

import pytest
from llguidance.hf import from_tokenizer
from transformers import AutoTokenizer

from reviewtune.local_server.engine.generation.token_bytes import TokenBytes
from tests.support.engine_models import real

pytestmark = pytest.mark.model
BYTE_FF = 493  # Gemma's <0xFF>, which no text holds: llguidance uses it as a mark of its own and spells nothing


@pytest.mark.parametrize(("name", "apart"), [("smollm2-135m-instruct", set()), ("gemma-3-270m", {BYTE_FF})])
def test_every_token_is_spelt_as_llguidance_does(name: str, apart: set[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real(name))
    spelling, words = TokenBytes(tokenizer), from_tokenizer(tokenizer, len(tokenizer))
    differing = {token for token in range(len(tokenizer)) if spelling(token) != bytes(words.decode_bytes([token]))}
    assert differing == apart
    assert spelling(len(tokenizer)) == b""


def test_another_kind_of_decoder_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="WordPiece"):
        TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend))
