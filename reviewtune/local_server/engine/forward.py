"""The forward pass: tokens in, hidden states out, with a cache of keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from reviewtune.local_server.engine.adapters import use
from reviewtune.local_server.engine.attention import PADDING, SHARED, Layout, Places, Prefix
from reviewtune.local_server.engine.model_loading import LoadedModel

STRIDE = 512  # tokens of a row that are processed at a time: attention scores grow with its square


class CachedForward:
    """A batch of rows behind a common prefix, to which tokens are appended; keys and values are kept in between.

    Rows can leave (`keep`) and join (`join`) between two reads.
    """

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

    @property
    def prefix(self) -> Prefix | None:
        return self._prefix

    @property
    def rows(self) -> int:
        return len(self._lengths)

    @property
    def width(self) -> int:
        """Stored tokens per row, with padding and without the prefix."""
        return self._keys.segments.shape[1]

    @property
    def stored(self) -> int:
        """Stored tokens of all rows, without padding; the prefix counts once."""
        return int((self._keys.segments != PADDING).sum()) + (self._prefix.length if self._prefix else 0)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only; columns that only the others used are dropped."""
        kept = torch.tensor(rows, device=self._model.device)
        positions, segments = self._keys.positions[kept], self._keys.segments[kept]
        used = (segments != PADDING).any(0).nonzero()[:, 0]
        whole = len(used) == self.width
        for layer in self._cache.layers:
            keys, values = layer.keys[kept], layer.values[kept]
            layer.keys, layer.values = (keys, values) if whole else (keys[:, :, used], values[:, :, used])
        self._keys = Places(positions[:, used], segments[:, used])
        self._lengths = self._lengths[kept]

    def join(self, other: "CachedForward") -> None:
        """Append the rows of another batch; where the prefixes differ, every row gets its own copy of its prefix."""
        if self._prefix is not other._prefix:
            self._copy_prefix()
            other._copy_prefix()
        width = max(self.width, other.width)
        self._widen(width)
        other._widen(width)
        for layer, others in zip(self._cache.layers, other._cache.layers, strict=True):
            layer.keys = torch.cat((layer.keys, others.keys))
            layer.values = torch.cat((layer.values, others.values))
        self._keys = Places(*map(torch.cat, zip(self._keys, other._keys, strict=True)))
        self._lengths = torch.cat((self._lengths, other._lengths))

    def _copy_prefix(self) -> None:
        prefix, self._prefix = self._prefix, None
        if prefix is None:
            return
        for layer, (keys, values) in zip(self._cache.layers, prefix.layers, strict=True):
            layer.keys = torch.cat((keys.expand(self.rows, -1, -1, -1), layer.keys), 2)
            layer.values = torch.cat((values.expand(self.rows, -1, -1, -1), layer.values), 2)
        positions = torch.arange(prefix.length, device=self._model.device).expand(self.rows, -1)
        self._keys = Places(
            torch.cat((positions, self._keys.positions), 1),
            torch.cat((torch.full_like(positions, SHARED), self._keys.segments), 1),
        )

    def _widen(self, width: int) -> None:
        """Add padding on the left, where it is dropped again when the longest rows have left."""
        missing = width - self.width
        if missing == 0:
            return
        for layer in self._cache.layers:
            layer.keys, layer.values = (pad(part, (0, 0, missing, 0)) for part in (layer.keys, layer.values))
        self._keys = Places(
            pad(self._keys.positions, (missing, 0)), pad(self._keys.segments, (missing, 0), value=PADDING)
        )

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
    use(model.network, model.adapter)
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
