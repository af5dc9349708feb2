"""The forward pass: tokens in, hidden states out, with a cache of keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from reviewtune.local_server.engine.attention import PADDING, SHARED, Layout, Places, Prefix
from reviewtune.local_server.engine.model_loading import LoadedModel

STRIDE = 512  # tokens of a row that are processed at a time: attention scores grow with its square


class CachedForward:
    """A batch of rows behind a common prefix, to which tokens are appended; keys and values are kept in between."""

    def __init__(self, model: LoadedModel, prefix: Prefix | None, rows: int) -> None:
        self._model, self._prefix = model, prefix
        self._cache = DynamicCache()
        begin = prefix.length if prefix else 0
        self._lengths = torch.full((rows,), begin, device=model.device)
        empty = torch.empty((rows, 0), dtype=torch.long, device=model.device)
        self._keys = Places(empty, empty)

    def read(self, chunks: Sequence[Sequence[int]]) -> list[Tensor]:
        """Append tokens to each row.

        Args:
            chunks: the next tokens of each row; rows may get different numbers.

        Returns:
            Hidden states of these tokens, [tokens, width] per row.
        """
        longest = max(len(chunk) for chunk in chunks)
        parts = [self._read([chunk[at : at + STRIDE] for chunk in chunks]) for at in range(0, longest, STRIDE)]
        hidden = torch.cat(parts, dim=1)
        return [row[: len(chunk)] for row, chunk in zip(hidden, chunks, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only."""
        kept = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(kept)
        self._keys = Places(self._keys.positions[kept], self._keys.segments[kept])
        self._lengths = self._lengths[kept]

    def as_prefix(self) -> Prefix:
        """The tokens of the only row as a prefix for other rows."""
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
    """Run the decoder.

    The 4D mask only tells transformers that there is one; `attend` computes its own from the layout.

    Args:
        model: the model.
        tokens: [rows, tokens].
        positions: [rows, tokens].
        layout: which tokens each token may attend to.
        cache: keys and values of earlier tokens; extended in place.

    Returns:
        Hidden states, [rows, tokens, width].
    """
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
