"""How much memory a training needs, and what it does to need less.

The need is estimated before the weights are loaded, from the network's modules without their weights. In bytes, with b
bytes for a number in the precision to compute in, T tokens in a pack, and rows of K tokens:

    weights     b a weight; those of the output matrix count once if they are also the embeddings'
    trained     12 a trained number (fp32 gradient and AdamW's two moments), 4 more in bf16 (fp32 master); an adapter's
                own weights are extra
    a layer     T (2 b (outputs of its linear maps) + 24 width + heads K (4 + b)): what backpropagation keeps
    activations as many layers as are trained, and one more for gradients; or, with recomputing, two layers, and
                b T width for each other one
    loss        chunks of scores, and a copy of the output matrix, of which a trained model needs only some rows
    saving      a bf16 copy of all weights, where there is none; by then the activations are freed
    other       OTHER, for libraries that are imported meanwhile and what they allocate

benchmarks/memory.py compares it with what trainings really take.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.highest_memory import highest_memory
from reviewtune.local_server.engine.training.frozen_layers import PACK, ExampleSet, keeps_states, row_size
from reviewtune.local_server.engine.training.losses import CHUNK

PACKS = (PACK, PACK // 2, PACK // 4, PACK // 8)  # tokens
OTHER = 200_000_000  # bytes
UNCERTAIN = 1.5  # the estimate is at most about so many times the real need
CGROUP = Path("/sys/fs/cgroup")  # the limits of a container, on Linux

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What a training keeps besides the trained weights."""

    whole: bool = False  # all weights are saved, not only an adapter
    averaged: bool = False  # the sums of the last steps' weights


ONLY_TRAINED = Kept()


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the memory of a training depends on; counts of numbers, not bytes, unless noted."""

    weights: int
    trained: int
    is_adapter: bool
    layers: int  # that are trained
    outputs: int  # of all linear maps of a layer, per token
    width: int
    heads: int
    vocabulary: int
    number: int  # bytes of a number
    kept: Kept = ONLY_TRAINED

    @property
    def weight_bytes(self) -> int:
        return self.weights * self.number

    @property
    def trained_bytes(self) -> int:
        master = 4 if self.number < 4 else 0
        mean = 4 if self.kept.averaged else 0
        return self.trained * (12 + master + mean + (self.number if self.is_adapter else 0))

    @property
    def loss_bytes(self) -> int:
        return CHUNK * self.vocabulary * (self.number + 8) + self.vocabulary * self.width * self.number

    @property
    def saving_bytes(self) -> int:
        copies = self.kept.whole if self.is_adapter else self.number > 2
        return 2 * self.weights if copies else 0

    def layer_bytes(self, pack: int, row: int) -> int:
        """What one layer keeps for backpropagation."""
        attention = self.heads * row * (4 + self.number)
        return pack * (2 * self.number * self.outputs + 24 * self.width + attention)


class Load(NamedTuple):
    """What is trained on, in tokens: the largest batch, the longest example, and each set of examples."""

    batch: int
    longest: int
    prefix: int
    sets: tuple[int, ...]


class Plan(NamedTuple):
    """How a training fits into the memory.

    Recomputing does not change the weights that a training ends with. Smaller packs do, in their last bits.
    """

    recompute: bool  # the inside of each trained layer, during backpropagation
    pack: int  # tokens that are computed at a time


def sizes_of(network: Any, frozen: int, rank: int | None, dtype: torch.dtype, kept: Kept = ONLY_TRAINED) -> Sizes:  # noqa: ANN401
    """The sizes of a training of this network, whose weights may be on the meta device.

    Args:
        network: transformers' causal language model.
        frozen: number of its lowest layers that are not trained.
        rank: of low-rank adapters, or None if the weights themselves are trained.
        dtype: the precision to compute in.
        kept: what the training keeps besides.
    """
    layers, head = network.get_decoder().layers[frozen:], network.get_output_embeddings().weight
    maps = [[part for part in layer.modules() if isinstance(part, nn.Linear)] for layer in layers]
    sides = sum(part.in_features + part.out_features for parts in maps for part in parts)
    return Sizes(
        weights=_numbers([network]),
        trained=_numbers(layers) if rank is None else rank * sides,
        is_adapter=rank is not None,
        layers=len(layers),
        outputs=max(sum(part.out_features for part in parts) for parts in maps),
        width=head.shape[1],
        heads=getattr(network.config.get_text_config(), "num_attention_heads", 0),
        vocabulary=head.shape[0],
        number=dtype.itemsize,
        kept=kept,
    )


def load_of(sets: Sequence[ExampleSet], batch_size: int) -> Load:
    """What is trained on: the first set is learned, the others only validate."""
    lengths = sorted(len(example.tokens) for example in sets[0].examples)
    return Load(
        batch=sum(lengths[-batch_size:]),
        longest=lengths[-1],
        prefix=sets[0].prefix,
        sets=tuple(part.tokens for part in sets),
    )


def need(sizes: Sizes, load: Load, plan: Plan) -> int:
    """The bytes that a training needs, estimated from above."""
    size = row_size(load.prefix, plan.pack)
    # A row is not full when it gets its last example, which is the shortest of its examples.
    row = min(max(load.longest, min(2 * size.row, size.row + load.longest)), load.batch)
    pack = min(max(plan.pack, row), load.batch)
    layer = sizes.layer_bytes(pack, row)
    inputs = (sizes.layers - 1) * pack * sizes.width * sizes.number
    activations = inputs + 2 * layer if plan.recompute else (sizes.layers + 1) * layer
    cache = sum(tokens for tokens in load.sets if keeps_states(tokens, sizes.width)) * sizes.width * sizes.number
    step = activations + sizes.loss_bytes
    return sizes.weight_bytes + sizes.trained_bytes + cache + OTHER + max(step, sizes.saving_bytes)


def choose(sizes: Sizes, load: Load, available: int | None) -> Plan:
    """The fastest way to train in the available memory.

    Args:
        sizes: of the network and what is trained of it.
        load: what it is trained on.
        available: bytes; None if unknown.

    Raises:
        ProviderError: the memory does not suffice in any way.
    """
    plans = [Plan(False, PACK), *(Plan(True, pack) for pack in PACKS)]
    if available is None:
        return plans[0]
    for plan in plans:
        if (needed := need(sizes, load, plan)) <= available:
            log.info("memory: %s needed, %s available; %s", _gigabytes(needed), _gigabytes(available), plan)
            return plan
    text = _too_little(sizes, load, plans[-1], available)
    if need(sizes, load, plans[-1]) > UNCERTAIN * available:
        raise ProviderError(text)
    log.warning("%s; trying it, because this is an estimate from above", text)
    return plans[-1]


def _too_little(sizes: Sizes, load: Load, plan: Plan, available: int) -> str:
    total, weights, trained = need(sizes, load, plan), sizes.weight_bytes, sizes.trained_bytes
    helps = "use a smaller base model, or end other programs"
    if total > 2 * (weights + trained):
        helps = f"shorten the longest examples ({load.longest} tokens), or {helps}"
    return (
        f"this training needs about {_gigabytes(total)} of memory ({_gigabytes(weights)} for the weights, "
        f"{_gigabytes(trained)} for what is trained, {_gigabytes(total - weights - trained)} for examples and loss), "
        f"but only {_gigabytes(available)} is available; {helps}"
    )


def ran_out(available: int | None) -> str:
    """What to say when the memory of a GPU did not suffice after all."""
    left = "" if available is None else f" ({_gigabytes(available)} are left)"
    return f"the GPU's memory ran out during the training{left}; end other programs on it, or use a smaller base model"


def available_memory(device: torch.device) -> int | None:
    """The bytes that a training on this device may use, or None if unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    if device.type == "cpu":
        return min([int(psutil.virtual_memory().available), *_left_in_container(CGROUP)])
    return None


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has used: of the GPU on CUDA, else of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return highest_memory()


def _left_in_container(cgroup: Path) -> list[int]:
    """What the container's limit leaves, files in memory counted as free; empty if there is no limit."""
    try:
        limit, used = (int((cgroup / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (cgroup / "memory.stat").read_text().splitlines()
        files = next(int(line.split()[1]) for line in lines if line.startswith("file "))
    except (OSError, ValueError, StopIteration):  # not Linux, another version of cgroups, or "max"
        return []
    return [limit - used + files]


def _numbers(modules: Sequence[nn.Module]) -> int:
    return sum(weight.numel() for weight in {weight for part in modules for weight in part.parameters()})


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
