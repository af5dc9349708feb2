"""Attention over rows that share a prefix; positions and segments decide what a token may attend to, not padding.

One function serves both uses. Generation: many prompts in one batch, whose common prefix is stored and multiplied
once. Training: several examples packed in one row behind one copy of their common prefix. transformers calls the
function by the name ATTENTION, with the `layout` that the model was given.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface

ATTENTION = "reviewtune"
SHARED = 0  # the segment that all others may attend to
PADDING = -1  # the segment of padding


class Places(NamedTuple):
    """Positions and segments of tokens, both [rows, tokens]."""

    positions: Tensor
    segments: Tensor


class Prefix(NamedTuple):
    """Keys and values of the tokens that all rows begin with: a pair per layer, each [1, heads, tokens, width]."""

    layers: list[tuple[Tensor, Tensor]]
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Which keys each query may attend to."""

    queries: Places
    keys: Places  # without the prefix
    prefix: Prefix | None = None
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def visible_prefix(self, window: int | None) -> int:
        """How many of the prefix's last tokens are within a sliding window; None: all."""
        length = self.prefix.length if self.prefix else 0
        return length if window is None else min(length, window)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What to add to the scores, [rows, 1, 1, queries, keys]; cached per window size, as layers differ in it."""
        if window not in self._masks:
            self._masks[window] = self._mask(window, dtype)
        return self._masks[window]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        keys = self._all_keys(self.visible_prefix(window))
        distance = self.queries.positions[:, :, None] - keys.positions[:, None, :]
        segments = keys.segments[:, None, :]
        visible = (distance >= 0) & ((segments == SHARED) | (segments == self.queries.segments[:, :, None]))
        if window is not None:
            visible &= distance < window
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None, None]

    def _all_keys(self, prefix_length: int) -> Places:
        if self.prefix is None:
            return self.keys
        rows, device = len(self.keys.positions), self.keys.positions.device
        places = torch.arange(self.prefix.length - prefix_length, self.prefix.length, device=device).expand(rows, -1)
        shared = torch.full_like(places, SHARED)
        return Places(torch.cat((places, self.keys.positions), 1), torch.cat((shared, self.keys.segments), 1))


def attend(
    module: Any,  # noqa: ANN401 - an attention layer of transformers
    query: Tensor,  # [rows, heads, queries, width]
    key: Tensor,  # [rows, key heads, keys, width]
    value: Tensor,
    _: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **__: Any,  # noqa: ANN401 - arguments of other implementations
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with grouped query heads, in the signature that transformers expects.

    Returns:
        The output [rows, queries, heads, width], and no attention weights.
    """
    rows, heads, count, width = query.shape
    groups = key.shape[1]  # query heads that share a key head are stacked
    scaled = (query * (scaling or width**-0.5)).reshape(rows, groups, -1, width)
    scores = scaled @ key.transpose(2, 3)
    shared = layout.visible_prefix(sliding_window)
    if layout.prefix:
        shared_key, shared_value = (part[:, :, -shared:] for part in layout.prefix.layers[module.layer_idx])
        scores = torch.cat((_against_shared(scaled, shared_key.transpose(2, 3)), scores), dim=-1)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    scores = scores.view(rows, groups, heads // groups, count, -1) + layout.mask(sliding_window, scores.dtype)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype).flatten(2, 3)
    if layout.prefix:
        output = _against_shared(weights[..., :shared], shared_value) + weights[..., shared:] @ value
    else:
        output = weights @ value
    return output.reshape(rows, heads, count, width).transpose(1, 2).contiguous(), None


def _against_shared(rows: Tensor, shared: Tensor) -> Tensor:
    """rows [r, g, n, k] times shared [1, g, k, m]: one product per head, without copies of shared."""
    r, g, n, _ = rows.shape
    product = rows.transpose(0, 1).reshape(g, r * n, -1) @ shared[0]
    return product.view(g, r, n, -1).transpose(0, 1)


AttentionInterface.register(ATTENTION, attend)
