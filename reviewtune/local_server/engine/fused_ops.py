"""The small operations between a network's matrix products, in fewer passes over memory than transformers writes them.

On a CPU they take as long as the products. What is computed is the same up to rounding; an architecture that is not
listed here goes the way that transformers knows.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

OFFSETS = {"Gemma3RMSNorm": 1.0, "LlamaRMSNorm": 0.0}  # what is added to the weight before it scales
TANH_GELU = "GELUTanh"


def fuse_operations(network: Any) -> None:  # noqa: ANN401 - transformers' models have no common type
    for module in network.modules():
        name = type(module).__name__
        if name in OFFSETS:
            epsilon = getattr(module, "variance_epsilon", None) or module.eps
            module.forward = partial(_rms_norm, module, OFFSETS[name], epsilon)
        elif name == TANH_GELU and network.dtype == torch.bfloat16:
            # The approximation is within 5e-4 of the real one, which bf16 hardly resolves, and takes 5 times as long.
            module.forward = functional.gelu


def _rms_norm(module: Any, offset: float, epsilon: float, state: Tensor) -> Tensor:  # noqa: ANN401 - any of OFFSETS
    """state / rms(state) * (offset + weight); Zhang and Sennrich, NeurIPS 2019, equation 4."""
    length = torch.linalg.vector_norm(state, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = torch.rsqrt(length.square() / state.shape[-1] + epsilon)
    scaled: Tensor = state * inverse.to(state.dtype) * (offset + module.weight)
    return scaled
