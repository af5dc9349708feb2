"""How fast this machine multiplies matrices, which bounds what a training or an answer can take."""

import time
from typing import Any

import torch

from reviewtune.local_server.engine.training.finetune import device, fast_precision

SECONDS = 2.0
LAYERS = 64  # matrices that do not fit into the cache together


def matrix_speed(rows: int, width: int, columns: int, *, backward: bool) -> float:
    """FLOP/s of a layer's forward product.

    Args:
        rows: tokens that are computed at a time.
        width: of a token's state.
        columns: of the layer's output.
        backward: with its two backward products, as in a training.
    """
    place: Any = {"device": device(), "dtype": fast_precision(device())}
    layers = [torch.randn(columns, width, **place) for _ in range(LAYERS)]
    state, gradient = torch.randn(rows, width, **place), torch.randn(rows, columns, **place)
    start, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < SECONDS or done == 0:
        for layer in layers:
            _ = state @ layer.T
            if backward:
                _ = gradient @ layer, gradient.T @ state
        if device().type == "cuda":
            torch.cuda.synchronize()
        done += LAYERS
    return done * (6 if backward else 2) * rows * width * columns / taken
