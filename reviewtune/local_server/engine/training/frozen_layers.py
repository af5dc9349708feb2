"""Training only the upper layers: the lower ones never change, so what they make of an example is computed once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reviewtune.local_server.engine.attention import Layout, Places
from reviewtune.local_server.engine.forward import run
from reviewtune.local_server.engine.model_loading import LoadedModel
from reviewtune.local_server.engine.training.packing import Example, Pack, RowSize, common_prefix, packs

REMEMBERED = 1 << 30  # bytes of lower hidden states that are kept; beyond, they are computed each time
SHORTEST_ROW = 192  # tokens: attention scores grow with the square of a row, so rows are short ...
PREFIXES_A_ROW = 8  # ... but long against their common beginning, which each row reads anew
SUBLAYERS = "self_attn", "mlp"  # whose outputs dropout thins; transformers calls them so in nearly every architecture
PACK = 2048  # tokens that are computed at a time: what bounds the memory of a large batch


class ExampleSet:
    """Examples, packed for a network whose lower layers may be remembered."""

    def __init__(self, examples: list[Example], prefix: int) -> None:
        self.examples, self.prefix = examples, prefix
        self.states: dict[int, Tensor] = {}  # of each example's own tokens, below the trained layers
        self.prefix_state: Tensor | None = None

    @property
    def tokens(self) -> int:
        return sum(len(example.tokens) for example in self.examples)

    def packs(self, order: Sequence[int], device: torch.device) -> list[Pack]:
        size = RowSize(max(SHORTEST_ROW, PREFIXES_A_ROW * self.prefix), PACK)
        return list(packs(self.examples, order, self.prefix, size, device))


def example_sets(*sets: list[Example]) -> list[ExampleSet]:
    prefix = common_prefix(*sets)
    return [ExampleSet(examples, prefix) for examples in sets]


class UpperLayers:
    """A network of which the lowest `frozen` layers and both embeddings stay as they are.

    While it learns, `dropout` is the share of what the others add to the hidden states that is left out at random
    (Srivastava et al., JMLR 2014), drawn from torch's generator.
    """

    def __init__(self, model: LoadedModel, frozen: int, dropout: float = 0.0) -> None:
        self._model, self._dropout = model, dropout
        self._wanted = torch.empty(0, dtype=torch.long)  # places whose hidden states are asked for
        decoder = model.network.get_decoder()
        self._frozen, self._upper = decoder.layers[:frozen], decoder.layers[frozen:]
        self._ways = {layer: layer.forward for layer in decoder.layers}
        model.network.requires_grad_(False)
        for part in (self._upper, decoder.norm):
            part.requires_grad_(True)
        sublayers = (getattr(layer, name, None) for layer in self._upper for name in SUBLAYERS)
        for sublayer in filter(None, sublayers if dropout else ()):
            sublayer.register_forward_hook(self._thin)
        if (last := getattr(self._upper[-1], "mlp", None)) is not None:
            last.forward = partial(self._where_wanted, last.forward)

    def _where_wanted(self, forward: Callable[[Tensor], Any], state: Tensor) -> Any:  # noqa: ANN401 - experts give more
        """The last layer's MLP, on nothing that no one will look at: most tokens are read, few are learned."""
        tokens = state.flatten(0, 1)
        made = forward(tokens[None, self._wanted])
        if not isinstance(made, Tensor):
            return forward(state)
        return torch.zeros_like(tokens).index_copy(0, self._wanted, made[0]).view_as(state)

    def _thin(self, _: nn.Module, __: Any, output: Any) -> Any:  # noqa: ANN401 - attention gives its weights too
        if not torch.is_grad_enabled():
            return output
        state, *rest = output if isinstance(output, tuple) else (output,)
        state = nn.functional.dropout(state, self._dropout)
        return (state, *rest) if isinstance(output, tuple) else state

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self._model.network.named_parameters() if weight.requires_grad}

    def remember(self, material: ExampleSet) -> None:
        """Compute the lower layers of all examples now, if there is room for the result."""
        if not self._frozen or material.tokens * self._model.head.shape[1] * 4 > REMEMBERED:
            return
        for pack in material.packs(range(len(material.examples)), self._model.device):
            state = self._lower(pack)
            material.prefix_state = state[0, : material.prefix].clone()
            for index, (row, span) in zip(pack.members, pack.spans, strict=True):
                material.states[index] = state[row, span].clone()

    def hidden(self, pack: Pack, material: ExampleSet) -> Tensor:
        """Hidden states [n, width] of the tokens whose successor is to be learned."""
        if self._frozen:
            state = self._recall(pack, material) if material.states else self._lower(pack)
            self._reroute(self._frozen, _pass_on)
            self._frozen[0].forward = lambda *_, **__: state
        self._wanted = pack.predicting
        return self._run(pack).flatten(0, 1)[pack.predicting]

    @staticmethod
    def _recall(pack: Pack, material: ExampleSet) -> Tensor:
        assert material.prefix_state is not None, "states are remembered together with their prefix"
        state = material.prefix_state.new_zeros((*pack.tokens.shape, material.prefix_state.shape[-1]))
        state[:, : material.prefix] = material.prefix_state
        for index, (row, span) in zip(pack.members, pack.spans, strict=True):
            state[row, span] = material.states[index]
        return state

    @torch.no_grad()
    def _lower(self, pack: Pack) -> Tensor:
        """What the first trained layer is given."""
        seen: list[Tensor] = []
        self._reroute(self._frozen, None)
        self._reroute(self._upper, _pass_on)
        with self._upper[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
            self._run(pack)
        self._reroute(self._upper, None)
        return seen[0]

    def _run(self, pack: Pack) -> Tensor:
        places = Places(pack.positions, pack.segments)
        return run(self._model, pack.tokens, places.positions, Layout(places, places))

    def _reroute(self, layers: Any, way: Any) -> None:  # noqa: ANN401 - slices of transformers' module list
        """Send hidden states through these layers another way; None: their own."""
        for layer in layers:
            layer.forward = way or self._ways[layer]


def _pass_on(state: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401 - whatever else a layer is given
    return state
