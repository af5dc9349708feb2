"""Faster versions of the small operations between a network's matrix products, with fewer passes over memory.

On a CPU these operations take as long as the matrix products. The results are the same up to rounding. Modules that are
not listed here keep transformers' implementation.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

OFFSETS = {"Gemma3RMSNorm": 1.0, "LlamaRMSNorm": 0.0, "Qwen2RMSNorm": 0.0}  # added to the weight before scaling
TANH_GELU = "GELUTanh"


def fuse_operations(network: Any) -> None:  # noqa: ANN401 - transformers' models have no common type
    """Replace the norms and activations of a network in place."""
    for module in network.modules():
        name = type(module).__name__
        if name in OFFSETS:
            epsilon = getattr(module, "variance_epsilon", None) or module.eps
            module.forward = partial(_rms_norm, module, OFFSETS[name], epsilon)
        elif name == TANH_GELU and network.dtype == torch.bfloat16:
            # tanh differs from the exact GELU by at most 5e-4, which bf16 hardly resolves, and is 5 times slower.
            module.forward = functional.gelu


def _rms_norm(module: Any, offset: float, epsilon: float, state: Tensor) -> Tensor:  # noqa: ANN401 - any of OFFSETS
    """state / rms(state) * (offset + weight); Zhang and Sennrich, NeurIPS 2019, equation 4."""
    length = torch.linalg.vector_norm(state, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = torch.rsqrt(length.square() / state.shape[-1] + epsilon)
    scaled: Tensor = state * inverse.to(state.dtype) * (offset + module.weight)
    return scaled


def dropout(state: Tensor, share: float) -> Tensor:
    """Set about this share of the values to 0 and scale the others up (Srivastava et al., JMLR 2014).

    torch's own dropout draws a random number for each value, which takes longer than the values' other operations.
    Here one draw of 64 bits serves eight values, so the share is rounded to 1/256.
    """
    limit, count = round(share * 256), state.numel()
    draws = torch.randint(-(2**63), 2**63 - 1, ((count + 7) // 8,), dtype=torch.int64, device=state.device)
    kept = (draws.view(torch.uint8)[:count] >= limit).view(state.shape)
    return state * kept.to(state.dtype).mul_(256 / (256 - limit))
