"""Folders that are no model, or a damaged one: one clear line, never random weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.model_loading import load_weights, without_weights
from reviewtune.local_server.engine.training.recipes import recipe_for
from tests.support.engine_models import one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 310\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny(), tmp_path / "my base"))


def refusal(folder: Path) -> str:
    with pytest.raises(ProviderError) as caught:
        load_weights(folder, torch.float32, ATTENTION)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("content", [POINTER.encode(), b""], ids=["pointer of git-lfs", "empty"])
def test_weights_that_are_something_else_are_named(base: Path, content: bytes) -> None:
    (base / "model.safetensors").write_bytes(content)
    assert "that transformers can open (" in refusal(base)


def test_half_copied_weights_are_named(base: Path) -> None:
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "that transformers can open (" in refusal(base)


def test_missing_weights_are_not_replaced_by_random_ones(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert refusal(base).endswith("its files of weights lack 1 parts, such as model.layers.1.mlp.up_proj.weight")


@pytest.mark.parametrize("wrong", [{"hidden_size": "many"}, {"num_attention_heads": 0}, {"layer_types": ["odd"]}])
def test_a_config_with_wrong_values_is_named(base: Path, wrong: dict[str, object]) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(ProviderError, match="that transformers can open"):
        without_weights(base)


def test_a_config_that_is_no_object_is_named(base: Path) -> None:
    (base / "config.json").write_text("[1]")
    with pytest.raises(ProviderError, match=r"my base is not a model folder: its config\.json is not a JSON object"):
        recipe_for(base)
