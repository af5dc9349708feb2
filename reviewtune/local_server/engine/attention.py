"""Attention over rows that share a beginning: who may look at whom is told by position and segment, not by padding.

One function serves both uses. Answering: many prompts side by side, whose common prefix is held, and multiplied, once.
Training: several examples packed in one row behind one copy of their common beginning. transformers calls it under the
name ATTENTION, with the `layout` that was given to the model.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface

ATTENTION = "reviewtune"
SHARED = 0  # the segment that all others see
PADDING = -1


class Places(NamedTuple):
    """Where tokens stand: both [rows, tokens]."""

    positions: Tensor
    segments: Tensor


class Prefix(NamedTuple):
    """Keys and values of tokens that all rows begin with, a pair a layer, each [1, heads, tokens, width]."""

    layers: list[tuple[Tensor, Tensor]]
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    queries: Places
    keys: Places  # without the prefix
    prefix: Prefix | None = None
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def held(self, window: int | None) -> int:
        """How many of the prefix's last tokens can be seen at all."""
        length = self.prefix.length if self.prefix else 0
        return length if window is None else min(length, window)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores, [rows, 1, 1, queries, keys]; one a window size, as layers differ in that."""
        if window not in self._masks:
            self._masks[window] = self._mask(window, dtype)
        return self._masks[window]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        keys = self._all_keys(self.held(window))
        ahead = self.queries.positions[:, :, None] - keys.positions[:, None, :]
        segments = keys.segments[:, None, :]
        seen = (ahead >= 0) & ((segments == SHARED) | (segments == self.queries.segments[:, :, None]))
        if window is not None:
            seen &= ahead < window
        hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None]

    def _all_keys(self, held: int) -> Places:
        if self.prefix is None:
            return self.keys
        rows, device = len(self.keys.positions), self.keys.positions.device
        places = torch.arange(self.prefix.length - held, self.prefix.length, device=device).expand(rows, -1)
        shared = torch.full_like(places, SHARED)
        return Places(torch.cat((places, self.keys.positions), 1), torch.cat((shared, self.keys.segments), 1))


def attend(
    module: Any,  # noqa: ANN401 - a layer's attention
    query: Tensor,  # [rows, heads, queries, width]
    key: Tensor,  # [rows, key heads, keys, width]
    value: Tensor,
    _: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **__: Any,  # noqa: ANN401 - what other implementations want
) -> tuple[Tensor, None]:
    rows, heads, count, width = query.shape
    groups = key.shape[1]  # query heads that share a key head stand below each other
    scaled = (query * (scaling or width**-0.5)).reshape(rows, groups, -1, width)
    scores = scaled @ key.transpose(2, 3)
    held = layout.held(sliding_window)
    if layout.prefix:
        shared_key, shared_value = (part[:, :, -held:] for part in layout.prefix.layers[module.layer_idx])
        scores = torch.cat((_against_shared(scaled, shared_key.transpose(2, 3)), scores), dim=-1)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    scores = scores.view(rows, groups, heads // groups, count, -1) + layout.mask(sliding_window, scores.dtype)
    shares = scores.softmax(-1, dtype=torch.float32).to(value.dtype).flatten(2, 3)
    if layout.prefix:
        output = _against_shared(shares[..., :held], shared_value) + shares[..., held:] @ value
    else:
        output = shares @ value
    return output.reshape(rows, heads, count, width).transpose(1, 2).contiguous(), None


def _against_shared(rows: Tensor, shared: Tensor) -> Tensor:
    """rows [r, g, n, k] times shared [1, g, k, m]: one product a head, no copies of shared."""
    r, g, n, _ = rows.shape
    product = rows.transpose(0, 1).reshape(g, r * n, -1) @ shared[0]
    return product.view(g, r, n, -1).transpose(0, 1)


AttentionInterface.register(ATTENTION, attend)
