"""The files of low-rank adapters, in the format of the package peft, which other programs read too.

peft itself is not imported to read one, because the import takes as long as loading the weights.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.adapters import DOWN, PREFIX, UP, Adapter, LowRank, ends_of, layer_of
from reviewtune.local_server.engine.types import ADAPTER_CONFIG

WEIGHTS = "adapter_model.safetensors"
STAMP = "reviewtune.json"  # the fingerprint of the network that the adapter belongs to
UNSUPPORTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save")  # settings of peft
SAMPLED = 16  # tensors of a network that its fingerprint looks at


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
        lora_alpha=whole(adapter.alpha),
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
        for end, part in ends_of(pair)
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})  # a second entry would change places at random
    (folder / STAMP).write_text(json.dumps({"base": fingerprint(network)}), encoding="utf-8")


def copy_adapter(folder: Path, target: Path) -> None:
    """Copy the files of an adapter that was loaded; earlier releases wrote alpha as 32.0."""
    for name in (WEIGHTS, STAMP):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    config = _config(folder)
    plain = config | {"lora_alpha": whole(float(config["lora_alpha"]))}
    (target / ADAPTER_CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True), encoding="utf-8")


def whole(number: float) -> float:
    """A number without a fraction as an integer, which peft's format wants: Ollama cannot read 32.0."""
    return int(number) if number == int(number) else number


def size_of(folder: Path) -> tuple[int, int]:
    """The rank of a stored adapter, and the number of its lowest layer.

    Raises:
        ProviderError: the file cannot be read.
    """
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            down = [name for name in file.keys() if name.endswith(DOWN)]  # noqa: SIM118 - not a dictionary
            return max(file.get_slice(name).get_shape()[0] for name in down), min(map(layer_of, down))
    except (OSError, SafetensorError, ValueError) as error:
        raise ProviderError(f"{folder / WEIGHTS} is not a low-rank adapter that can be read ({error})") from error


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
