"""Weights that compute in bf16 and learn in fp32.

bf16 keeps 8 bits of a number: the steps of a fine-tune are smaller than that and would be rounded away. So they are
taken on copies in fp32, and the network gets the rounded result (Micikevicius et al., ICLR 2018, section 3.1).
"""

from collections.abc import Mapping

import torch
from torch import nn


class Fp32Masters:
    """What the optimizer sees of a network's trained weights; where these are fp32, themselves."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.named = {name: _master(weight) for name, weight in weights.items()}
        self._pairs = [(weight, self.named[name]) for name, weight in weights.items() if weight is not self.named[name]]

    def take_gradients(self) -> None:
        """From the network, whose own are freed one by one."""
        for weight, master in self._pairs:
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None

    @torch.no_grad()
    def give_weights(self) -> None:
        """To the network, rounded."""
        for weight, master in self._pairs:
            weight.copy_(master)


def _master(weight: nn.Parameter) -> nn.Parameter:
    return weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float())
