"""Converting the weights of a GGUF file to bf16 safetensors, one tensor at a time.

So the memory needed is that of the largest tensor, not that of the model. transformers has the rules per architecture
(names, order of the rows, offsets of norms), and gguf undoes the quantization. The file is equal, to the byte, to the
one that transformers writes after loading the whole model.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from reviewtune.errors import ProviderError

EMBEDDINGS, OUTPUT = "token_embd.weight", "output.weight"
ALIGNMENT = 8  # bytes; safetensors pads its header


def write_weights(gguf_file: Path, network: Any, target: Path) -> None:  # noqa: ANN401 - no common type
    """Write the weights of a GGUF file.

    Args:
        gguf_file: the file.
        network: the model that transformers builds for it, without weights (on the device "meta").
        target: the safetensors file.

    Raises:
        ProviderError: the file lacks a weight of the network.
    """
    import gguf

    reader = gguf.GGUFReader(gguf_file)
    shapes = {name: list(weight.shape) for name, weight in network.state_dict().items()}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if network.config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
        _tie(tensors)
    sources, process = _rules(reader, network, tensors)
    missing = sorted(shapes.keys() - sources.keys())
    if missing:
        raise ProviderError(f"{gguf_file} lacks weights of {type(network).__name__}: {', '.join(missing[:3])}")
    names = sorted(shapes)
    with target.open("wb") as stream:
        stream.write(_header(names, shapes))
        for name in names:
            stream.write(process(sources[name], shapes[name]))


def _tie(tensors: dict[str, Any]) -> None:
    """Leave one matrix for embeddings and output, under the name of the embeddings.

    A GGUF file may hold two copies of a matrix that the model has once: 4 bits per weight for the embeddings, which are
    only looked up, and 6 for the output, where errors count more. The one with more bits is the closer copy for both.
    """
    copies = [tensors.pop(name) for name in (EMBEDDINGS, OUTPUT) if name in tensors]
    tensors[EMBEDDINGS] = max(copies, key=lambda tensor: tensor.n_bytes)


def _rules(reader: Any, network: Any, tensors: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:  # noqa: ANN401
    """Which tensor each weight comes from, and how.

    Returns:
        Per name in the network, its tensor's name and content in the file; and the function that turns such a pair into
        the bytes of bf16 numbers.
    """
    import numpy as np
    import torch
    from gguf import dequantize
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    architecture = reader.fields["general.architecture"].contents()
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=network.config.to_dict())
    names = get_gguf_hf_weights_map(network, processor)
    sources = {names[name]: (name, tensor) for name, tensor in tensors.items() if name in names}

    def process(source: tuple[str, Any], shape: Sequence[int]) -> memoryview:
        name, tensor = source
        numbers = processor.process(weights=dequantize(tensor.data, tensor.tensor_type), name=name).weights
        writable = np.require(numbers, requirements="W")  # what was not quantized is a read-only part of the file
        weight = torch.from_numpy(writable).to(torch.bfloat16).reshape(shape).contiguous()
        return weight.view(torch.int16).numpy().data.cast("B")

    return sources, process


def _header(names: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> bytes:
    """The beginning of a safetensors file: its length, and where each tensor is."""
    table = {"__metadata__": {"format": "pt"}, **dict(_entries(names, shapes))}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _entries(names: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, dict[str, Any]]]:
    start = 0
    for name in names:
        end = start + 2 * prod(shapes[name])  # 2 bytes per bf16 number
        yield name, {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [start, end]}
        start = end
