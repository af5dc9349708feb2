"""Trains only the upper layers; the lower ones never change, so their activations are computed once per example."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reviewtune.local_server.engine.attention import Layout, Places
from reviewtune.local_server.engine.forward import run
from reviewtune.local_server.engine.fused_ops import dropout
from reviewtune.local_server.engine.model_loading import LoadedModel
from reviewtune.local_server.engine.training.packing import Example, Pack, RowSize, common_prefix, packs

CACHE_BYTES = 1 << 30  # of cached hidden states of the lower layers; larger sets are computed each time
SHORTEST_ROW = 448  # tokens: attention scores grow with the square of a row's length, so rows are short ...
PREFIXES_A_ROW = 8  # ... but long compared to their padding and their common prefix, which every row computes again
# These get dropout on their outputs; transformers uses the names in nearly every architecture.
SUBLAYERS = ("self_attn", "mlp")
PACK = 2048  # tokens that are computed at a time; bounds the memory of a large batch


class ExampleSet:
    """Examples with a common prefix, and the cached states of the lower layers for them.

    Attributes:
        pack: tokens that are computed at a time.
    """

    def __init__(self, examples: list[Example], prefix: int) -> None:
        self.examples, self.prefix = examples, prefix
        self.states: dict[int, Tensor] = {}  # example -> hidden states of its own tokens below the trained layers
        self.prefix_state: Tensor | None = None
        self.pack = PACK

    @property
    def tokens(self) -> int:
        """The number of tokens of all examples."""
        return sum(len(example.tokens) for example in self.examples)

    def packs(self, order: Sequence[int], device: torch.device) -> list[Pack]:
        """These examples, packed into rows."""
        return list(packs(self.examples, order, self.prefix, row_size(self.prefix, self.pack), device))


def keeps_states(tokens: int, width: int) -> bool:
    """Whether the lower layers' states of a set of so many tokens are kept, or computed each time."""
    return tokens * width * 4 <= CACHE_BYTES


def row_size(prefix: int, pack: int) -> RowSize:
    """The sizes for packs of about so many tokens, of examples that share a prefix."""
    return RowSize(min(max(SHORTEST_ROW, PREFIXES_A_ROW * prefix), max(pack, 2 * prefix)), pack)


def example_sets(*sets: list[Example]) -> list[ExampleSet]:
    """Sets of examples with the prefix that all sets have in common."""
    prefix = common_prefix(*sets)
    return [ExampleSet(examples, prefix) for examples in sets]


class UpperLayers:
    """A network whose lowest `frozen` layers and embeddings are not trained.

    It replaces the `forward` of single layers of transformers to skip them; tests/local_server/engine/test_attention.py
    compares the results with the unchanged network.

    Args:
        model: the network. Without an adapter, the weights of its upper layers are trained.
        frozen: number of layers that stay unchanged.
        dropout: share of the other sublayers' outputs that is left out at random during training (Srivastava et al.,
            JMLR 2014), drawn from torch's generator.
        recompute: whether trained layers keep only their input and compute the rest again during backpropagation
            (Chen et al., arXiv 1604.06174), which takes less memory and gives the same gradients.
    """

    def __init__(self, model: LoadedModel, frozen: int, dropout: float = 0.0, recompute: bool = False) -> None:
        self._model, self._dropout = model, dropout
        self._used = torch.empty(0, dtype=torch.long)  # positions whose final hidden states are used
        decoder = model.network.get_decoder()
        self._frozen, self._upper = decoder.layers[:frozen], decoder.layers[frozen:]
        self._own_forwards = {layer: layer.forward for layer in decoder.layers}
        if recompute:
            self._own_forwards |= {layer: partial(_recomputed, layer.forward) for layer in self._upper}
            self._reroute(self._upper, None)
        model.network.requires_grad_(False)
        for part in () if model.adapter else (self._upper, decoder.norm):
            part.requires_grad_(True)
        sublayers = (getattr(layer, name, None) for layer in self._upper for name in SUBLAYERS)
        for sublayer in filter(None, sublayers if dropout else ()):
            sublayer.register_forward_hook(self._drop_out)
        if (last := getattr(self._upper[-1], "mlp", None)) is not None:
            last.forward = partial(self._at_used_positions, last.forward)

    def _at_used_positions(self, forward: Callable[[Tensor], Any], state: Tensor) -> Any:  # noqa: ANN401 - experts return more
        """Apply the last layer's MLP only where its output is used: most tokens are context, few are trained on."""
        tokens = state.flatten(0, 1)
        output = forward(tokens[None, self._used])
        if not isinstance(output, Tensor):
            return forward(state)
        return torch.zeros_like(tokens).index_copy(0, self._used, output[0]).view_as(state)

    def _drop_out(self, _: nn.Module, __: Any, output: Any) -> Any:  # noqa: ANN401 - attention also returns its weights
        if not torch.is_grad_enabled():
            return output
        state, *rest = output if isinstance(output, tuple) else (output,)
        state = dropout(state, self._dropout)
        return (state, *rest) if isinstance(output, tuple) else state

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that are trained, by name."""
        if self._model.adapter:
            return self._model.adapter.parameters
        return {name: weight for name, weight in self._model.network.named_parameters() if weight.requires_grad}

    def cache(self, examples: ExampleSet) -> None:
        """Compute the lower layers of all examples now, if the result is not too large."""
        if not self._frozen or not keeps_states(examples.tokens, self._model.head.shape[1]):
            return
        for pack in examples.packs(range(len(examples.examples)), self._model.device):
            state = self._lower(pack)
            examples.prefix_state = state[0, : examples.prefix].clone()
            for index, (row, span) in zip(pack.members, pack.spans, strict=True):
                examples.states[index] = state[row, span].clone()

    def hidden(self, pack: Pack, examples: ExampleSet) -> Tensor:
        """Hidden states [n, width] of the tokens whose next token is learned."""
        if self._frozen:
            state = self._cached(pack, examples) if examples.states else self._lower(pack)
            self._reroute(self._frozen, _pass_on)
            self._frozen[0].forward = lambda *_, **__: state
        self._used = pack.predicting
        return self._run(pack).flatten(0, 1)[pack.predicting]

    @staticmethod
    def _cached(pack: Pack, examples: ExampleSet) -> Tensor:
        assert examples.prefix_state is not None, "states are cached together with their prefix"
        state = examples.prefix_state.new_zeros((*pack.tokens.shape, examples.prefix_state.shape[-1]))
        state[:, : examples.prefix] = examples.prefix_state
        for index, (row, span) in zip(pack.members, pack.spans, strict=True):
            state[row, span] = examples.states[index]
        return state

    @torch.no_grad()
    def _lower(self, pack: Pack) -> Tensor:
        """The input of the first trained layer."""
        captured: list[Tensor] = []
        self._reroute(self._frozen, None)
        self._reroute(self._upper, _pass_on)
        with self._upper[0].register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0])):
            self._run(pack)
        self._reroute(self._upper, None)
        return captured[0]

    def _run(self, pack: Pack) -> Tensor:
        places = Places(pack.positions, pack.segments)
        return run(self._model, pack.tokens, places.positions, Layout(places, places))

    def _reroute(self, layers: Any, forward: Any) -> None:  # noqa: ANN401 - slices of transformers' module list
        """Replace the forward function of these layers; None restores their own."""
        for layer in layers:
            layer.forward = forward or self._own_forwards[layer]


def _recomputed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - those of a layer
    """Call a layer's forward function; with gradients, again during backpropagation, with the same dropout."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    state: Tensor = checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return state


def _pass_on(state: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401 - the other arguments of a layer
    return state
