"""Low-rank adapters (LoRA): small matrices whose product is added to the linear maps of a network.

A linear map with an adapter computes W x + (alpha / rank) B A x (Hu et al., ICLR 2022, equation 3). The network itself
stays as it is, so any number of adapters can share one copy of it in memory; `use` says which one it computes with.

The layers of the package peft are not used: they pass over each output twice more than the single product here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PREFIX = "base_model.model."  # of the names in a file of peft; then the module's name, and one of these:
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


class LowRank(NamedTuple):
    """The two factors of what is added to one linear map, in the names of the paper A and B."""

    down: Tensor  # A, [rank, inputs]
    up: Tensor  # B, [outputs, rank]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A low-rank adapter.

    Attributes:
        matrices: by the name of the linear map in the network.
        alpha: the factor of the product is alpha / rank.
    """

    matrices: Mapping[str, LowRank]
    alpha: float

    @property
    def rank(self) -> int:
        return len(next(iter(self.matrices.values())).down)

    @property
    def layers(self) -> list[int]:
        """The numbers of the layers that it changes, ascending."""
        return sorted({layer_of(name) for name in self.matrices})

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The matrices by their names in a file, as they are trained."""
        named = {PREFIX + name + end: part for name, pair in self.matrices.items() for end, part in ends_of(pair)}
        return {name: part for name, part in named.items() if isinstance(part, nn.Parameter)}


_in_use: WeakKeyDictionary[nn.Module, Adapter] = WeakKeyDictionary()


def use(network: nn.Module, adapter: Adapter | None) -> None:
    """Have a network compute with this adapter, or without one. It costs nothing if the network already does.

    Only one thread may run a network: another one would compute with the wrong adapter.
    """
    current = _in_use.get(network)
    if current is adapter:
        return
    for name in current.matrices if current else ():
        del network.get_submodule(name).forward  # the one of its class remains
    for name, pair in adapter.matrices.items() if adapter else ():
        module = network.get_submodule(name)
        module.forward = partial(_adapted, module, pair, adapter.scale if adapter else 0.0)
    _in_use.pop(network, None)
    if adapter is not None:
        _in_use[network] = adapter


def _adapted(module: Any, pair: LowRank, scale: float, state: Tensor) -> Tensor:  # noqa: ANN401 - nn.Linear
    output: Tensor = _LowRankLinear.apply(state, module.weight, module.bias, *pair, scale)  # type: ignore[no-untyped-call]
    return output


class _LowRankLinear(torch.autograd.Function):
    """W x + scale B A x, with a gradient for x, A and B.

    Written out, because autograd copies both the output and its gradient for the product that is added in place, and
    adds up the gradients of x in further passes: together a tenth of a training step on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        state: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        rows = state.flatten(0, -2)
        output = linear(rows, weight, bias)
        low = linear(rows, down)
        output.addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scale = scale
        return output.view(*state.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:  # noqa: ANN401
        rows, weight, down, up, low = ctx.saved_tensors
        gradient = outer[0].flatten(0, -2)
        of_low = (gradient @ up).mul_(ctx.scale)
        of_state = None
        if ctx.needs_input_grad[0]:
            of_state = (gradient @ weight).addmm_(of_low, down).view(*outer[0].shape[:-1], -1)
        return of_state, None, None, of_low.T @ rows, (gradient.T @ low).mul_(ctx.scale), None


def new_adapter(network: Any, layers: Sequence[nn.Module], rank: int, alpha: float) -> Adapter:  # noqa: ANN401
    """An adapter for all linear maps of these layers that changes nothing yet: B is 0, A random.

    Args:
        network: transformers' causal language model.
        layers: some of its layers.
        rank: of the matrices.
        alpha: the factor of the product is alpha / rank.
    """
    maps = {part: name for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    chosen = [part for layer in layers for part in layer.modules() if part in maps]
    return Adapter({maps[part]: _new_pair(part, rank) for part in chosen if isinstance(part, nn.Linear)}, alpha)


def _new_pair(part: nn.Linear, rank: int) -> LowRank:
    bound = 1 / math.sqrt(part.in_features)  # as in peft: Kaiming's uniform bound with a = sqrt(5)
    down = torch.empty(rank, part.in_features).uniform_(-bound, bound)
    return LowRank(*map(nn.Parameter, (down.to(part.weight), part.weight.new_zeros(part.out_features, rank))))


def merged(network: nn.Module, adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    """The weights of a network with the adapter's products added, by name, in bf16."""
    pairs = {f"{name}.weight": pair for name, pair in adapter.matrices.items()}
    for name, weight in network.named_parameters():
        part = weight.detach()
        if (pair := pairs.get(name)) is not None:
            # Out of place: in fp32, `part` is the network's own memory.
            part = part.float().addmm(pair.up.detach().float(), pair.down.detach().float(), alpha=adapter.scale)
        yield name, part.to(torch.bfloat16)


def trainable(adapter: Adapter) -> Adapter:
    """The adapter with matrices that can be trained."""
    pairs = adapter.matrices.items()
    return replace(adapter, matrices={name: LowRank(*map(nn.Parameter, pair)) for name, pair in pairs})


def ends_of(pair: LowRank) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    return (DOWN, pair.down), (UP, pair.up)


def layer_of(name: str) -> int:
    """14 for model.layers.14.self_attn.q_proj."""
    return next(int(part) for part in name.split(".") if part.isdigit())
