"""Loading a model folder: tokenizer, weights, and the device and precision to compute with."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.adapter_files import base_of, is_adapter, load_adapter
from reviewtune.local_server.engine.adapters import Adapter
from reviewtune.local_server.engine.base_models.model_folder import STAMP, sha256_of
from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.fused_ops import fuse_operations

KEEP_MEMORY = {
    -4: 0,
    -1: 2**31 - 1,
    -2: 1 << 28,
    -8: 1,
}  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
CPU_BF16 = ("amx_bf16", "avx512_bf16")  # CPU features with bf16 products: 4 and 2.3 times as fast as fp32
NETWORK = "config.json", "generation_config.json", STAMP  # files that do not affect the tokenizer
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
# What transformers raises for files that are damaged, incomplete, or those of something else.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    SafetensorError,
    StrictDataclassError,
)


@dataclass(slots=True)
class LoadedModel:
    """A model in memory."""

    network: Any  # transformers' causal language model, shared with other adapters; None while its weights are freed
    chat: ChatTemplate
    device: torch.device
    adapter: Adapter | None = None

    @property
    def context(self) -> int:
        """The maximal number of tokens of a conversation, answer included."""
        return context_of(self.network)

    @property
    def head(self) -> torch.Tensor:
        """The output matrix [tokens of the vocabulary, width], which turns a hidden state into scores."""
        weight: torch.Tensor = self.network.get_output_embeddings().weight
        return weight


def context_of(network: Any) -> int:  # noqa: ANN401 - transformers' causal language model
    """The maximal number of tokens of a network; one that also reads images has it in a part of its configuration."""
    return int(network.config.get_text_config().max_position_embeddings)


def device() -> torch.device:
    """The device to compute on: CUDA, MPS or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fast_precision(device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it faster than fp32; other CPUs take nearly twice as long for it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    on_fast_cpu = any(capabilities.get(name) for name in CPU_BF16)
    return torch.bfloat16 if on_fast_cpu else torch.float32


def give_back_memory() -> None:
    """Give the memory of unloaded models back to the GPU's other programs, such as a trainer; torch would keep it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_cpu_without_amx() -> bool:
    """Whether this machine computes on a CPU that lacks AMX, with which a training takes a fraction of the time."""
    return device().type == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16")


def _tune_cpu() -> None:
    """Avoid two things that cost a CPU more than the arithmetic does.

    Denormal numbers, such as the gradients of well-learned tokens, take many times as long as others. And glibc gives
    each large tensor new pages from the system, which clears them at the first access: an element-wise operation on
    8 MB took 4.5 times as long as in reused memory. So glibc is set to keep memory, by its `mallopt`, called through
    ctypes; other C libraries are left alone. tests/local_server/engine/test_model_loading.py notices if that stops
    working.
    """
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc, not musl
        for option, value in KEEP_MEMORY.items():
            mallopt(option, value)


def load_model(folder: Path, dtype: torch.dtype, attention: str, base: Path | None = None) -> LoadedModel:
    """Load a model folder. A base model and all its adapters share one copy of the weights in memory.

    Args:
        folder: a folder that transformers can open, with safetensors, or an adapter.
        dtype: the precision to compute in.
        attention: the name of an attention implementation of transformers.
        base: the folder of the adapter's base model, if it is not where the adapter's configuration says.

    Raises:
        ProviderError: the folder does not contain a causal language model with a chat template, or an adapter of one.
    """
    if not is_adapter(folder):
        return _load_shared(folder, dtype, attention)
    base = base or base_of(folder)
    if not (base / "config.json").is_file():
        raise ProviderError(f"{folder} was fine-tuned from {base}, which is not there; restore it, or fine-tune again")
    model = _load_shared(base, dtype, attention)
    return replace(model, adapter=load_adapter(folder, model.network))


def stop_at(generation: Any, token: int) -> None:  # noqa: ANN401 - transformers' GenerationConfig
    """Let other programs that open the model end an answer where the chat template ends a turn.

    The base model's own end may be another token, which a fine-tune never writes.
    """
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if token not in ends:
        generation.eos_token_id = [*ends, token]


_networks: WeakValueDictionary[tuple[Path, torch.dtype, str], Any] = WeakValueDictionary()


def _load_shared(folder: Path, dtype: torch.dtype, attention: str) -> LoadedModel:
    key = (folder.resolve(), dtype, attention)
    if (network := _networks.get(key)) is not None:
        return LoadedModel(network, _chat(_TokenizerKey(folder, _digest(folder))), network.device)
    model = load_weights(folder, dtype, attention)
    _networks[key] = model.network
    return model


def load_weights(folder: Path, dtype: torch.dtype, attention: str) -> LoadedModel:
    """Load a folder with all weights of a model, not shared with any other.

    Raises:
        ProviderError: the folder does not contain a causal language model with a chat template.
    """
    transformers_logging.disable_progress_bar()
    _tune_cpu()
    target = device()
    chat = load_chat(folder)
    with _opening(folder):
        # Only safetensors: a pickle could run any code.
        network, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            device_map={"": target} if target.type == "cuda" else None,  # not through the machine's own memory
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):  # transformers would fill them with random numbers
        raise ProviderError(f"{folder}: its files of weights lack {len(missing)} parts, such as {missing[0]}")
    _check_family(network, folder)
    if target.type == "cpu":
        fuse_operations(network)
    return LoadedModel(network.to(target).eval(), chat, target)


def load_chat(folder: Path) -> ChatTemplate:
    """The tokenizer of a model folder with its chat template.

    Raises:
        ProviderError: the folder has no tokenizer, or one without a chat template.
    """
    with _opening(folder):
        return _chat(_TokenizerKey(folder, _digest(folder)))


def without_weights(folder: Path) -> Any:  # noqa: ANN401 - transformers' models have no common type
    """The network of a model folder on torch's meta device: sizes only, which takes hardly any time or memory.

    Raises:
        ProviderError: the folder does not contain a causal language model.
    """
    with _opening(folder), torch.device("meta"):
        network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    _check_family(network, folder)
    return network


def _check_family(network: Any, folder: Path) -> None:  # noqa: ANN401
    """Refuse architectures that compute their attention by themselves or name their layers oddly; they are old ones."""
    if not (network._supports_attention_backend and hasattr(network.get_decoder(), "layers")):
        raise ProviderError(
            f"{folder} is a model of the family {network.config.model_type}, "
            "which the local provider does not support; "
            "use one of a newer family, such as Gemma, Llama, Mistral, Phi-3 or Qwen"
        )


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """Name the folder in the errors of transformers."""
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError, which says nothing about the folder
        raise
    except UNREADABLE as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ProviderError(f"{folder} has no causal language model that transformers can open ({reason})") from error


@dataclass(frozen=True, slots=True)
class _TokenizerKey:
    """Identifies a tokenizer with its template; equal for a fine-tune and its base model."""

    folder: Path = field(compare=False)
    digest: str


def _digest(folder: Path) -> str:
    """Hash of all files except those of the network and its weights."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name not in NETWORK]
    return " ".join(f"{file.name} {sha256_of(file)}" for file in files if not file.name.endswith(WEIGHTS))


@lru_cache(maxsize=2)  # loading a tokenizer takes as long as loading the weights
def _chat(key: _TokenizerKey) -> ChatTemplate:
    tokenizer = AutoTokenizer.from_pretrained(key.folder)
    if tokenizer.chat_template is None:
        folder = key.folder
        raise ProviderError(f"{folder} has no chat template; add a chat_template.jinja, or use an instruct model")
    return ChatTemplate(tokenizer)
