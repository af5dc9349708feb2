"""Converting a GGUF file to a folder that transformers can open: config, tokenizer, chat template, bf16 safetensors."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewtune.local_server.engine.base_models.gguf_weights import write_weights


def convert(gguf_file: Path, target: Path, chat_template: str | None, tied: bool) -> None:
    """Convert a GGUF file.

    Args:
        gguf_file: the file.
        target: an existing folder for the model.
        chat_template: replaces the one in the file.
        tied: the model has one matrix for embeddings and output, although the file has two.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    with _parsed_once():
        _convert_tokenizer(gguf_file, target, chat_template)
        _convert_network(gguf_file, target, tied)
    _speed_up_opening(target)


def _convert_tokenizer(gguf_file: Path, target: Path, chat_template: str | None) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    tokenizer.save_pretrained(target)


def _convert_network(gguf_file: Path, target: Path, tied: bool) -> None:
    """Write config and weights; the network itself is only a description of them, without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    config.tie_word_embeddings |= tied
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(target)
    network.generation_config.save_pretrained(target)
    write_weights(gguf_file, network, target / "model.safetensors")


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Have a GGUF file parsed once instead of three times, at ten seconds each for 262,144 tokens.

    transformers parses it separately for tokenizer and config, and `write_weights` for the weights, each time through
    `gguf.GGUFReader`. This replaces that class by a cached one. Not part of gguf's public interface;
    tests/local_server/engine/base_models/test_conversion.py notices if transformers no longer uses it.
    """
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def _speed_up_opening(folder: Path) -> None:
    """Let a tokenizer of 262,144 tokens open in half the time.

    The generic class takes tokenizer.json as it is; a model's own class would rebuild it, which takes seconds. The
    added tokens go into the configuration, where transformers looks first; otherwise it parses all of tokenizer.json
    again to find them.
    """
    tokenizer_file, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer, config = (json.loads(file.read_text(encoding="utf-8")) for file in (tokenizer_file, config_file))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["added_tokens_decoder"] = {str(token.pop("id")): token for token in map(dict, tokenizer["added_tokens"])}
    config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer_file.write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
