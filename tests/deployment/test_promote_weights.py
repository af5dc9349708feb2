"""`promote --with-weights`: another machine, which knows nothing of the fine-tune, gives the same answers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.conftest import reviewtune
from tests.support.clones import Clone

pytestmark = pytest.mark.pipeline
STAGES = """
import runpy, sys
for words in ("prepare", "split", "baseline majority", "format", "finetune", "evaluate"):
    sys.argv = [f"stages/{words.split()[0]}.py", *words.split()[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
TEXTS = "text\nThe parcel came two weeks late.\nThe cup came in pieces.\nGreat quality!\nI was charged twice.\n"


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in a family of which adapters are trained."""
    from transformers import AutoConfig, MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("base") / "tiny-mistral"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    known = AutoConfig.from_pretrained(tiny_model).to_dict()
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    config = MistralConfig(**{name: known[name] for name in names}, num_key_value_heads=2, tie_word_embeddings=True)
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def promoted(project: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """The tiny model passes no gate, so it is forced."""
    clone = Clone.of(project, tmp_path_factory.mktemp("weights") / "project", base)
    clone.edit("conf/evaluation/default.yaml", "reference: zero_shot", "reference: majority")
    clone.set_epochs(1)
    clone.write_params()
    clone.commit("settings")
    clone.env["PYTHONPATH"] = str(clone.folder)
    clone.run("python", "-c", STAGES)
    reviewtune(clone, "promote", "--force", "--reason", "to see it work", "--with-weights")
    yield clone
    clone.end_server()


@pytest.fixture
def elsewhere(promoted: Clone, tmp_path: Path) -> Iterator[Clone]:
    """The project on another machine: without its account, its cached answers and its copy of the champion."""
    promoted.end_server()
    (promoted.home / "data").rename(promoted.home / "away")
    shutil.copytree(promoted.folder, tmp_path / "project")
    shutil.rmtree(tmp_path / "project" / ".work")
    other = Clone(tmp_path / "project")
    other.env["PYTHONPATH"] = str(other.folder)
    yield other
    other.end_server()
    (promoted.home / "away").rename(promoted.home / "data")


def classified(clone: Clone) -> str:
    (clone.folder / "new.csv").write_text(TEXTS)
    reviewtune(clone, "classify", "new.csv", "--out", "sorted.csv", "--confidence")
    return (clone.folder / "sorted.csv").read_text()


def test_another_machine_gives_the_same_answers(promoted: Clone, request: pytest.FixtureRequest) -> None:
    here = classified(promoted)
    other: Clone = request.getfixturevalue("elsewhere")
    reviewtune(other, "champion", "--out", "../champion")
    assert (other.folder.parent / "champion" / "adapter" / "adapter_model.safetensors").exists()
    assert classified(other) == here
    assert other.jobs() == 0, "nothing was trained there"
