"""A model folder, opened: tokenizer, weights, and the place and precision to compute in."""

import ctypes
import hashlib
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models import STAMP
from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.fused_ops import fuse_operations

KEEP_MEMORY = {
    -4: 0,
    -1: 2**31 - 1,
    -2: 1 << 28,
    -8: 1,
}  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
NETWORK = "config.json", "generation_config.json", STAMP  # what does not say how a model spells


@dataclass(frozen=True, slots=True)
class LoadedModel:
    network: Any  # transformers' causal language model
    chat: ChatTemplate
    device: torch.device

    @property
    def context(self) -> int:
        """Most tokens that a conversation may have, answer included."""
        return int(self.network.config.max_position_embeddings)

    @property
    def head(self) -> torch.Tensor:
        """The matrix that turns a hidden state into the scores of all words."""
        weight: torch.Tensor = self.network.get_output_embeddings().weight
        return weight


def device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fast_precision(place: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it faster than fp32: on a CPU without AMX it takes nearly twice as long."""
    on_cpu_with_amx = place.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if place.type == "cuda" or on_cpu_with_amx else torch.float32


def _spare_the_cpu() -> None:
    """Two habits that cost a CPU more than the arithmetic does.

    Numbers next to zero, as the gradients of tokens known by heart, take many times as long as others. And glibc gives
    each large tensor fresh pages of the system, which clears them on first touch: an element-wise operation on
    8 MB took 4.5 times as long as in memory that is used again.
    """
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc, not musl
        for option, value in KEEP_MEMORY.items():
            mallopt(option, value)


def load_model(folder: Path, dtype: torch.dtype, attention: str) -> LoadedModel:
    """Raises: ProviderError: the folder holds no causal language model with a chat template."""
    transformers_logging.disable_progress_bar()
    _spare_the_cpu()
    place = device()
    try:
        chat = _chat(_TokenizerKey(folder, _digest(folder)))
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, use_safetensors=True
        )  # never a pickle, which could run whatever its author liked
    except (OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise ProviderError(f"{folder} holds no causal language model that transformers can open ({said})") from error
    if place.type == "cpu":
        fuse_operations(network)
    return LoadedModel(network.to(place).eval(), chat, place)


@dataclass(frozen=True, slots=True)
class _TokenizerKey:
    """How a model spells: equal where the tokenizer and its template are, as a fine-tune's and its base model's."""

    folder: Path = field(compare=False)
    digest: str


def _digest(folder: Path) -> str:
    """Of all files but those about the network and its weights."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name not in NETWORK]
    return " ".join(f"{file.name} {_sha256(file)}" for file in files if ".safetensors" not in file.name)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=2)  # opening one takes as long as opening the weights
def _chat(spelling: _TokenizerKey) -> ChatTemplate:
    tokenizer = AutoTokenizer.from_pretrained(spelling.folder)
    if tokenizer.chat_template is None:
        folder = spelling.folder
        raise ProviderError(f"{folder} has no chat template; add a chat_template.jinja, or take an instruct model")
    return ChatTemplate(tokenizer)
