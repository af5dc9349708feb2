"""Master weights in fp32 for a network that computes in bf16.

bf16 has 8 bits of precision. The steps of a fine-tune are smaller than that and would be rounded away, so they are
taken on fp32 copies, and the network gets the rounded result (Micikevicius et al., ICLR 2018, section 3.1).
"""

from collections.abc import Mapping

import torch
from torch import nn


class Fp32Masters:
    """The trained weights as the optimizer sees them: fp32 copies, or the weights themselves if they are fp32."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.named = {name: _master(weight) for name, weight in weights.items()}
        self._pairs = [(weight, self.named[name]) for name, weight in weights.items() if weight is not self.named[name]]

    def take_gradients(self) -> None:
        """Move the gradients from the network to the masters; the network's are freed one by one."""
        for weight, master in self._pairs:
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None

    @torch.no_grad()
    def give_weights(self) -> None:
        """Copy the masters to the network, rounded."""
        for weight, master in self._pairs:
            weight.copy_(master)


def _master(weight: nn.Parameter) -> nn.Parameter:
    return weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float())
