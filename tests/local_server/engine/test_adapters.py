"""Low-rank adapters: the same answers in peft, one base model in memory for all of them, adapters that do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.adapters import Adapter, LowRank, merged, new_adapter, use
from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.forward import CachedForward
from reviewtune.local_server.engine.model_loading import LoadedModel, load_model
from reviewtune.local_server.engine.training import finetune
from reviewtune.local_server.engine.training.recipes import Recipe
from reviewtune.local_server.engine.types import TrainingSpec
from tests.support.engine_models import chat_file, one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
TOKENS = [[1, 400, 77, 9001, 23, 512, 8]]
RECIPE = Recipe(learning_rate=5e-2, frozen_layers=0.5, rank=4)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    def train(seed: int, base: Path | None = None, **changes: object) -> Path:
        files = chat_file(tmp_path / "train.jsonl"), None
        spec = TrainingSpec(base or tiny(), *files, tmp_path / f"out-{seed}", seed, n_epochs=2, batch_size=4)
        for _ in (run := finetune.TrainingRun(spec, RECIPE)).run():
            pass
        return run.spec.output

    return train


def states(model: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return CachedForward(model, None, 1).read(TOKENS)[0].cpu()  # PEFT's network is there, also on a GPU


def opened(folder: Path, base: Path | None = None) -> LoadedModel:
    return load_model(folder, torch.float32, ATTENTION, base)


def plain(folder: Path) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def states_in_peft(folder: Path) -> torch.Tensor:
    network = PeftModel.from_pretrained(plain(tiny()), folder)
    with torch.inference_mode():
        output = network(torch.tensor(TOKENS), output_hidden_states=True)
    hidden: torch.Tensor = output.hidden_states[-1][0]
    return hidden


def test_peft_opens_an_adapter_and_computes_the_same(trained: Callable[..., Path]) -> None:
    folder = trained(1)
    ours, theirs = states(opened(folder)), states_in_peft(folder)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, states(opened(tiny())), atol=1e-2)


def test_an_adapter_that_peft_wrote_is_opened(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    network = get_peft_model(plain(tiny()), config)
    network.save_pretrained(tmp_path)
    with torch.inference_mode():
        expected = network(torch.tensor(TOKENS), output_hidden_states=True).hidden_states[-1][0]
    torch.testing.assert_close(states(opened(tmp_path, tiny())), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_formula(bias: bool) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=bias)).double()
    state, down, up = (torch.randn(*shape).double().requires_grad_() for shape in ((2, 4, 6), (3, 6), (5, 3)))
    formula = network(state) + 2 / 3 * state @ down.T @ up.T
    outer = torch.randn_like(formula)
    expected = torch.autograd.grad(formula, (state, down, up), outer)
    use(network, Adapter({"0": LowRank(down, up)}, alpha=2.0))
    value = network(state)
    torch.testing.assert_close(value, formula)
    torch.testing.assert_close(torch.autograd.grad(value, (state, down, up), outer), expected)


def test_adapters_share_their_base_and_do_not_disturb_each_other(trained: Callable[..., Path]) -> None:
    first, second, base = opened(trained(1)), opened(trained(2)), opened(tiny())
    assert first.network is second.network is base.network
    alone = [states(model).clone() for model in (first, second, base)]
    mixed = [states(model) for model in (base, second, first, base, first, second)]
    for index, state in zip((2, 1, 0, 2, 0, 1), mixed, strict=True):
        assert torch.equal(state, alone[index])
    assert not torch.equal(alone[0], alone[1])


def test_all_weights_with_the_adapter_merged_give_the_same(trained: Callable[..., Path], tmp_path: Path) -> None:
    """A fine-tune of a model that may be deleted is saved whole."""
    files = chat_file(tmp_path / "train.jsonl"), None
    spec = TrainingSpec(tiny(), *files, tmp_path / "whole", 1, n_epochs=2, batch_size=4, whole=True)
    for _ in (run := finetune.TrainingRun(spec, RECIPE)).run():
        pass
    del run
    torch.testing.assert_close(states(opened(tmp_path / "whole")), states(opened(trained(1))), atol=0.05, rtol=0.05)


def test_merging_leaves_the_network_as_it_is() -> None:
    """In fp32 the merged weights must not share memory with the network's."""
    network = plain(tiny())
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    adapter = new_adapter(network, network.get_decoder().layers, rank=2, alpha=4.0)
    for pair in adapter.matrices.values():
        torch.nn.init.normal_(pair.up)
    first, second = dict(merged(network, adapter)), dict(merged(network, adapter))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    changed = {name for name in first if not torch.equal(first[name], before[name].to(torch.bfloat16))}
    assert changed == {f"{name}.weight" for name in adapter.matrices}


@pytest.mark.parametrize("setting", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 1}}, {"bias": "all"}])
def test_an_adapter_with_unknown_arithmetic_is_refused(tmp_path: Path, setting: dict[str, object]) -> None:
    network = get_peft_model(plain(tiny()), LoraConfig(r=2, target_modules=["q_proj"]))
    network.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(ProviderError, match=f"uses {next(iter(setting))}, which is not supported here"):
        opened(tmp_path, tiny())


def test_a_checkpoint_of_the_largest_base_model_has_at_most_60_mb() -> None:
    """The sizes of Qwen2.5-Coder-1.5B-Instruct, without its weights."""
    config = Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151_936,
    )
    with torch.device("meta"):
        network = Qwen2ForCausalLM(config)
        adapter = new_adapter(network, network.get_decoder().layers[14:], rank=16, alpha=32.0)
    numbers = sum(part.numel() for part in adapter.parameters.values())
    assert numbers == 9_232_384
    assert 2 * numbers < 60_000_000


def test_an_adapter_of_another_base_is_refused(trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained(1)
    other = Path(shutil.copytree(tiny(), tmp_path / "other"))
    network = plain(other)
    torch.nn.init.normal_(network.get_decoder().layers[0].mlp.up_proj.weight)
    network.save_pretrained(other)
    with pytest.raises(ProviderError, match=r"was not trained for the base model .*other"):
        opened(folder, other)


def test_a_base_that_is_gone_is_named(trained: Callable[..., Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny(), tmp_path / "base"))
    folder = trained(1, base)
    shutil.rmtree(base)
    with pytest.raises(ProviderError, match=r"out-1 was fine-tuned from .*base, which is not there; restore it"):
        opened(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"[]", b'{"lora_alpha": null}', b"\xff"])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "reviewtune.json"])
def test_damaged_files_are_named_in_one_line(trained: Callable[..., Path], name: str, content: bytes) -> None:
    folder = trained(1)
    (folder / name).unlink()  # it is linked with the checkpoint's
    (folder / name).write_bytes(content)
    with pytest.raises(ProviderError, match=r"out-1") as caught:
        opened(folder, tiny())
    assert "\n" not in str(caught.value)


def test_the_files_are_the_same_bytes_again(trained: Callable[..., Path]) -> None:
    files = [trained(1) / name for name in ("adapter_model.safetensors", "adapter_config.json", "reviewtune.json")]
    first = [file.read_bytes() for file in files]
    shutil.rmtree(files[0].parent)
    trained(1)
    assert [file.read_bytes() for file in files] == first
    assert json.loads(first[1])["layers_to_transform"] == [1]
