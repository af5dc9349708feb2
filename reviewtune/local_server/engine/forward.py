"""A network that reads: tokens in, hidden states out, keys and values remembered."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from reviewtune.local_server.engine.attention import PADDING, SHARED, Layout, Places, Prefix
from reviewtune.local_server.engine.model_loading import LoadedModel

STRIDE = 512  # most tokens of a row that are read at a time: attention scores grow with its square


class CachedForward:
    """Rows that are read on and on, side by side, behind a common prefix."""

    def __init__(self, model: LoadedModel, prefix: Prefix | None, rows: int) -> None:
        self._model, self._prefix = model, prefix
        self._cache = DynamicCache()
        begin = prefix.length if prefix else 0
        self._lengths = torch.full((rows,), begin, device=model.device)
        nothing = torch.empty((rows, 0), dtype=torch.long, device=model.device)
        self._keys = Places(nothing, nothing)

    def read(self, chunks: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states [tokens, width] of each row's next tokens."""
        longest = max(len(chunk) for chunk in chunks)
        parts = [self._read([chunk[at : at + STRIDE] for chunk in chunks]) for at in range(0, longest, STRIDE)]
        hidden = torch.cat(parts, dim=1)
        return [row[: len(chunk)] for row, chunk in zip(hidden, chunks, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        chosen = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(chosen)
        self._keys = Places(self._keys.positions[chosen], self._keys.segments[chosen])
        self._lengths = self._lengths[chosen]

    def as_prefix(self) -> Prefix:
        """What the only row has read, for others to go on from."""
        layers = [(layer.keys, layer.values) for layer in self._cache.layers]
        return Prefix(layers, int(self._lengths[0]))

    def _read(self, chunks: Sequence[Sequence[int]]) -> Tensor:
        device = self._model.device
        counts = torch.tensor([len(chunk) for chunk in chunks])
        width = int(counts.max())
        tokens = torch.tensor([[*chunk, *[0] * (width - len(chunk))] for chunk in chunks], device=device)
        steps = torch.arange(width, device=device)
        positions = self._lengths[:, None] + steps
        segments = torch.where(steps < counts.to(device)[:, None], SHARED, PADDING)
        self._keys = Places(
            torch.cat((self._keys.positions, positions), 1), torch.cat((self._keys.segments, segments), 1)
        )
        self._lengths = self._lengths + counts.to(device)
        layout = Layout(Places(positions, torch.full_like(segments, SHARED)), self._keys, self._prefix)
        hidden: Tensor = run(self._model, tokens, positions, layout, self._cache)
        return hidden


def run(
    model: LoadedModel, tokens: Tensor, positions: Tensor, layout: Layout, cache: DynamicCache | None = None
) -> Tensor:
    """The decoder's hidden states. The 4D mask only says that there is one; `attend` makes its own from the layout."""
    output = model.network.get_decoder()(
        input_ids=tokens,
        position_ids=positions,
        attention_mask=torch.zeros(1, 1, 1, 1, device=model.device),
        past_key_values=cache,
        use_cache=cache is not None,
        layout=layout,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden
