"""Writes a model as a folder that other programs open: its weights or adapter, tokenizer, chat template, config.

Everything is written into a folder that the caller made and moves into place, so nothing here is atomic.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import GenerationConfig

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine import adapter_files, adapters
from reviewtune.local_server.engine.base_models.model_folder import STAMP, make_readable
from reviewtune.local_server.engine.model_loading import WEIGHTS, LoadedModel, load_model, stop_at
from reviewtune.local_server.engine.types import ADAPTER_CONFIG, ChatMessage

NOT_COPIED = (STAMP, "README.md", "generation_config.json", ADAPTER_CONFIG)
TEMPLATE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
SYSTEM_MARK, USER_MARK = "REVIEWTUNE_SYSTEM", "REVIEWTUNE_USER"
BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Source:
    """The model to export: its folder, and the base model's folder if that is an adapter."""

    folder: Path
    base: Path | None

    @property
    def files(self) -> Path:
        """The folder with tokenizer, chat template and license."""
        return self.base or self.folder


@dataclass(frozen=True, slots=True)
class Turns:
    """The text that the chat template makes of one question.

    Attributes:
        text: with SYSTEM_MARK and USER_MARK in the place of the messages, up to where the answer begins.
        begin: the token that the tokenizer puts before a text, as other programs do; empty if there is none.
        end: the token that ends an answer.
    """

    text: str
    begin: str
    end: str


def size_of(source: Source, *, adapter: bool) -> int:
    """Bytes that the export will take, to about 1 %.

    Raises:
        ProviderError: the weights are missing or damaged.
    """
    weights = source.folder if adapter else source.files
    elements = sum(map(_elements, _weights_in(weights)))
    return elements * BF16_BYTES + sum(file.stat().st_size for file in _copied(source))


def write(source: Source, target: Path, *, adapter: bool) -> Turns:
    """Write the model into an existing, empty folder.

    Args:
        source: the model.
        target: the folder.
        adapter: write the adapter alone instead of all weights.

    Raises:
        ProviderError: the model cannot be opened, or the disk is full.
    """
    try:
        model = load_model(source.folder, torch.bfloat16, "sdpa", source.base)
        for file in _copied(source):
            if not (adapter and file.name == "config.json"):
                shutil.copyfile(file, target / file.name)
        _write_template(model, target)
        model.network.generation_config = _greedy(model.network.generation_config, model.chat.end_of_turn)
        if adapter:
            adapter_files.copy_adapter(source.folder, target)
            model.network.generation_config.save_pretrained(target)
        else:
            _write_weights(model, target)
        make_readable(target)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while ").strip()
        raise ProviderError(f"the weights cannot be read or written ({reason}); nothing was exported") from error
    return _turns(model)


def _write_weights(model: LoadedModel, target: Path) -> None:
    network = model.network
    if model.adapter:
        weights = dict(adapters.merged(network, model.adapter))
    else:
        weights = {name: weight.detach().to(torch.bfloat16) for name, weight in network.named_parameters()}
    network.save_pretrained(target, state_dict=weights)  # also config.json and generation_config.json


def _greedy(base: GenerationConfig, end_of_turn: int) -> GenerationConfig:
    """Settings for the most likely answer, up to the end of the turn; the base model's own end stays an end.

    Nothing else of the base model's settings is kept, since the local provider does not use them: a penalty for
    repetition, for example, changes labels. What is 1 or 0 here is written out, because programs that open an adapter
    take what is missing from the base model.
    """
    settings = GenerationConfig(
        bos_token_id=base.bos_token_id,
        eos_token_id=base.eos_token_id,
        pad_token_id=base.pad_token_id,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
    )
    stop_at(settings, end_of_turn)
    return settings


def _write_template(model: LoadedModel, target: Path) -> None:
    """In both places where programs look for it."""
    template = model.chat.tokenizer.chat_template
    if not isinstance(template, str):  # a model with several; the tokenizer's own files hold them
        return
    (target / TEMPLATE).write_text(template, encoding="utf-8")
    config_file = target / TOKENIZER_CONFIG
    config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
    config_file.write_text(json.dumps(config | {"chat_template": template}, indent=2), encoding="utf-8")


def _turns(model: LoadedModel) -> Turns:
    tokenizer = model.chat.tokenizer
    question = (ChatMessage("system", SYSTEM_MARK), ChatMessage("user", USER_MARK))
    return Turns(
        text=model.chat.text(question),
        begin=tokenizer.bos_token if tokenizer("x").input_ids[0] == tokenizer.bos_token_id else "",
        end=tokenizer.convert_ids_to_tokens(model.chat.end_of_turn),
    )


def _copied(source: Source) -> Iterator[Path]:
    """Tokenizer, template, config, license: what is not weights."""
    for file in sorted(source.files.iterdir()):
        is_other = file.name in NOT_COPIED or file.name.endswith((*WEIGHTS, ".index.json", ".py"))
        if file.is_file() and not file.name.startswith(".") and not is_other:
            yield file


def _weights_in(folder: Path) -> list[Path]:
    """The files of safetensors, without the state to resume a training from."""
    found = [*sorted(folder.glob("model*.safetensors")), *sorted(folder.glob("adapter_model.safetensors"))]
    if not found:
        raise ProviderError(f"{folder} has no weights (*.safetensors); restore them, or fine-tune again")
    return found


def _elements(file: Path) -> int:
    """Numbers in a file of safetensors, from its header.

    Raises:
        ProviderError: the file is damaged.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        is_whole = file.stat().st_size == 8 + length + max(entry["data_offsets"][1] for entry in tensors)
        count = sum(prod(entry["shape"]) for entry in tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProviderError(f"{file} is damaged; restore it, or fine-tune again") from error
    if not is_whole:
        raise ProviderError(f"{file} is damaged: it is not complete; restore it, or fine-tune again")
    return int(count)
