"""Low-rank adapters (LoRA): small matrices whose product is added to the linear maps of a network.

A linear map with an adapter computes W x + (alpha / rank) B A x (Hu et al., ICLR 2022, equation 3). The network itself
stays as it is, so any number of adapters can share one copy of it in memory; `use` says which one it computes with.

Adapters are stored in the format of the package peft, which other programs read too. Its own layers are not used:
they pass over each output twice more than the single product here. Nor is it imported to read an adapter, because the
import takes as long as loading the weights.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.types import ADAPTER_CONFIG

WEIGHTS = "adapter_model.safetensors"
STAMP = "reviewtune.json"  # the fingerprint of the network that the adapter belongs to
PREFIX = "base_model.model."  # of the names in WEIGHTS; then the module's name, and one of these:
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
UNSUPPORTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save")  # settings of peft
SAMPLED = 16  # tensors of a network that its fingerprint looks at


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
        return sorted({_layer_of(name) for name in self.matrices})

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The matrices by their names in a file, as they are trained."""
        named = {PREFIX + name + end: part for name, pair in self.matrices.items() for end, part in _ends(pair)}
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


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, not whole weights."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The folder of the base model, as an adapter's configuration names it."""
    return Path(str(_config(folder).get("base_model_name_or_path")))


def save_adapter(adapter: Adapter, network: nn.Module, base: Path, folder: Path) -> None:
    """Write an adapter in the format of peft, in bf16.

    Args:
        adapter: the adapter.
        network: the network that it belongs to.
        base: the folder of that network.
        folder: an existing folder, which gets three files.
    """
    from peft import LoraConfig  # here, because the import takes a second

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=sorted({name.rpartition(".")[2] for name in adapter.matrices}),
        layers_to_transform=adapter.layers,
        base_model_name_or_path=str(base),
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).to_dict()
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True), encoding="utf-8")
    tensors = {
        PREFIX + name + end: part.detach().to(torch.bfloat16).contiguous()
        for name, pair in adapter.matrices.items()
        for end, part in _ends(pair)
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})  # a second entry would change places at random
    (folder / STAMP).write_text(json.dumps({"base": fingerprint(network)}), encoding="utf-8")


def load_adapter(folder: Path, network: Any) -> Adapter:  # noqa: ANN401 - transformers' causal language model
    """Read an adapter for this network, in the network's precision.

    Raises:
        ProviderError: the files cannot be read, or belong to another network.
    """
    config = _config(folder)
    if unknown := [name for name in UNSUPPORTED if config.get(name) not in (None, False, "none", {}, [])]:
        raise ProviderError(f"{folder / ADAPTER_CONFIG} uses {', '.join(unknown)}, which is not supported here")
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        pairs = {
            name.removeprefix(PREFIX).removesuffix(DOWN): LowRank(part, tensors[name.removesuffix(DOWN) + UP])
            for name, part in tensors.items()
            if name.endswith(DOWN)
        }
        alpha = float(config["lora_alpha"])
        stamp = folder / STAMP  # an adapter of another program has none
        made_for = json.loads(stamp.read_text(encoding="utf-8"))["base"] if stamp.exists() else fingerprint(network)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ProviderError(f"{folder / WEIGHTS} is not a low-rank adapter that can be read ({error})") from error
    if made_for != fingerprint(network) or not _fits(pairs, network):
        raise ProviderError(
            f"the adapter in {folder} was not trained for the base model {network.name_or_path}; if those weights were "
            "converted again or taken from another source, restore the earlier ones, or fine-tune again"
        )
    place = {"device": network.device, "dtype": network.dtype}
    return Adapter({name: LowRank(*(part.to(**place) for part in pair)) for name, pair in pairs.items()}, alpha)


def trainable(adapter: Adapter) -> Adapter:
    """The adapter with matrices that can be trained."""
    pairs = adapter.matrices.items()
    return replace(adapter, matrices={name: LowRank(*map(nn.Parameter, pair)) for name, pair in pairs})


def fingerprint(network: nn.Module) -> str:
    """A hash of a few numbers of the network, rounded to bf16; equal however the file is laid out."""
    weights = [(name, weight) for name, weight in sorted(network.named_parameters()) if ".layers." in name]
    digest = hashlib.sha256()
    for name, weight in weights[:: max(1, len(weights) // SAMPLED)]:
        sample = weight.detach().flatten()[:256].to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample)
    return digest.hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProviderError(f"{folder / ADAPTER_CONFIG} cannot be read ({error})") from error
    return content if isinstance(content, dict) else {}


def _fits(pairs: Mapping[str, LowRank], network: nn.Module) -> bool:
    modules = dict(network.named_modules())
    shapes = {name: getattr(getattr(modules.get(name), "weight", None), "shape", None) for name in pairs}
    if not pairs or any(part.dim() != 2 or 0 in part.shape for pair in pairs.values() for part in pair):
        return False
    return all(
        shapes[name] == (len(pair.up), pair.down.shape[1]) and pair.up.shape[1] == len(pair.down)
        for name, pair in pairs.items()
    )


def _ends(pair: LowRank) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    return (DOWN, pair.down), (UP, pair.up)


def _layer_of(name: str) -> int:
    """14 for model.layers.14.self_attn.q_proj."""
    return next(int(part) for part in name.split(".") if part.isdigit())
