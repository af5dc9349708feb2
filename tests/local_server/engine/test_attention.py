"""Shared prefixes and packed rows change the cost, not the result; transformers' own attention is the reference."""

import pytest
import torch

from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.forward import CachedForward
from reviewtune.local_server.engine.model_loading import load_model, load_weights
from reviewtune.local_server.engine.training.frozen_layers import ExampleSet, UpperLayers
from reviewtune.local_server.engine.training.packing import Example
from tests.support.engine_models import real, tiny

pytestmark = pytest.mark.model
WINDOW = 8  # far below the lengths used here


def expected(tokens: list[int]) -> torch.Tensor:
    plain = load_model(tiny(WINDOW), torch.float32, "eager")
    batch = torch.tensor([tokens], device=plain.device)
    hidden: torch.Tensor = plain.network.get_decoder()(batch).last_hidden_state[0]
    return hidden


def random_tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = torch.randint(3, 40_000, (count,), generator=generator).tolist()
    return tokens


@torch.inference_mode()
def test_rows_behind_a_prefix_give_the_states_of_single_rows() -> None:
    model = load_weights(tiny(WINDOW), torch.float32, ATTENTION)
    begin, rows = random_tokens(20, 0), [random_tokens(count, count) for count in (5, 17, 11)]
    first = CachedForward(model, None, 1)
    first.read([begin])
    reader = CachedForward(model, first.as_prefix(), len(rows))
    read = reader.read(rows)
    reader.keep([0, 2])
    more = reader.read([[7], [8, 9, 10]])
    for row, hidden in zip(rows, read, strict=True):
        torch.testing.assert_close(hidden, expected(begin + row)[20:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(more[0], expected([*begin, *rows[0], 7])[-1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(more[1], expected([*begin, *rows[2], 8, 9, 10])[-3:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("cached", [False, True])
def test_packed_examples_give_the_states_of_single_examples(frozen: int, cached: bool) -> None:
    begin = tuple(random_tokens(6, 0))
    examples = [
        Example((*begin, *random_tokens(count, count)), (*[False] * (4 + count), True, True)) for count in (9, 3, 14)
    ]
    model = load_weights(tiny(WINDOW), torch.float32, ATTENTION)
    layers, example_set = UpperLayers(model, frozen), ExampleSet(examples, len(begin))
    if cached:
        layers.cache(example_set)
    (pack,) = example_set.packs([2, 0, 1], model.device)
    reference = torch.cat([expected(list(examples[index].tokens))[-3:-1] for index in (2, 0, 1)])
    torch.testing.assert_close(layers.hidden(pack, example_set), reference, atol=1e-4, rtol=1e-4)
    assert pack.targets.tolist() == [token for index in (2, 0, 1) for token in examples[index].tokens[-2:]]


@torch.inference_mode()
def test_a_real_model_gives_the_states_of_transformers() -> None:
    folder, tokens = real("smollm2-135m-instruct"), random_tokens(30, 1)
    hidden = CachedForward(load_model(folder, torch.float32, ATTENTION), None, 1).read([tokens])[0]
    plain = load_model(folder, torch.float32, "eager")
    states = plain.network.get_decoder()(torch.tensor([tokens], device=plain.device)).last_hidden_state
    torch.testing.assert_close(hidden, states[0], atol=1e-3, rtol=1e-3)
