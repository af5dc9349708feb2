"""How fast this machine multiplies matrices, which bounds what a training or an answer can take."""

import time
from typing import Any

import torch

from reviewtune.local_server.engine.training.finetune import device, fast_precision

SECONDS = 2.0
LAYERS = 64  # matrices that do not fit into the cache together


def training_speed(rows: int, width: int, columns: int) -> float:
    """FLOP/s of a layer's forward product and its two backward ones.

    Args:
        rows: tokens that are computed at a time.
        width: of a token's state.
        columns: of the layer's output.
    """
    place = _place()
    layers = [torch.randn(columns, width, **place) for _ in range(LAYERS)]
    state, gradient = torch.randn(rows, width, **place), torch.randn(rows, columns, **place)

    def all_layers() -> None:
        for layer in layers:
            _ = state @ layer.T, gradient @ layer, gradient.T @ state

    return _speed(all_layers, LAYERS * 6 * rows * width * columns)


def answering_speed(rows: int, width: int, columns: int) -> float:
    """FLOP/s of a layer's forward product; arguments as in `training_speed`."""
    place = _place()
    layers = [torch.randn(columns, width, **place) for _ in range(LAYERS)]
    state = torch.randn(rows, width, **place)

    def all_layers() -> None:
        for layer in layers:
            _ = torch.nn.functional.linear(state, layer)

    return _speed(all_layers, LAYERS * 2 * rows * width * columns)


def _place() -> dict[str, Any]:
    return {"device": device(), "dtype": fast_precision(device())}


def _speed(work: Any, operations: int) -> float:  # noqa: ANN401 - a function without arguments
    work()
    start, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < SECONDS or done == 0:
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        done += 1
    return done * operations / taken
