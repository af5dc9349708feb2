"""The mean of the trained weights over the last steps, which takes the place of the last weights.

The last steps jump around a minimum, and their mean is closer to it (Polyak and Juditsky, SIAM Journal on Control and
Optimization 1992; Izmailov et al., UAI 2018). It costs one addition a step, and four bytes per trained weight.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

SUM, COUNT = ".sum", "averaged_steps"


class WeightAverage:
    """The mean of weights over the last steps of a training.

    Args:
        weights: the weights that the optimizer changes, by name.
        share: of the steps, in [0, 1); 0 changes nothing.
        steps: of the whole training.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], share: float, steps: int) -> None:
        self._weights, self._share, self._steps = weights, share, steps
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Add the weights after this step, counted from 1; after the last one they become the mean."""
        if step <= self._steps * (1 - self._share):
            return
        self._count += 1
        for name, weight in self._weights.items():
            if name in self._sums:
                self._sums[name] += weight
            else:
                self._sums[name] = weight.detach().clone()
        if step == self._steps:
            for name, weight in self._weights.items():
                weight.copy_(self._sums[name] / self._count)

    def state(self) -> dict[str, Tensor]:
        """What a training that is cut off needs to continue."""
        if not self._count:
            return {}
        return {COUNT: torch.tensor(self._count), **{name + SUM: value for name, value in self._sums.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`, which may hold other tensors too."""
        if COUNT in state:
            self._count = int(state[COUNT])
            self._sums = {name: state[name + SUM].to(weight.device) for name, weight in self._weights.items()}
