"""A fine-tune's folder in other programs: transformers opens it and stops where a turn ends, and others may read it."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from reviewtune.local_server.engine.training import finetune
from reviewtune.local_server.engine.types import TrainingSpec
from tests.support.engine_models import chat_file, one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
OTHER_END = 5  # the base model's own end; turns end with <|im_end|>


class WritesOneWord(LogitsProcessor):  # type: ignore[misc]
    """Lets a model write one word and then end its turn, as a fine-tune does."""

    def __init__(self, prompt: int, word: int, end: int) -> None:
        self._prompt, self._next = prompt, (word, end)

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = self._next[min(tokens.shape[1] - self._prompt, 1)]
        return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([wanted]), 0.0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model whose own end is another token than that of its chat template, with a file that is private."""
    folder = Path(shutil.copytree(tiny(), tmp_path / "base"))
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"eos_token_id": OTHER_END}))
    (folder / "tokenizer.json").chmod(0o600)
    return folder


@pytest.fixture
def exported(base: Path, tmp_path: Path) -> Path:
    spec = TrainingSpec(base, chat_file(tmp_path / "train.jsonl"), None, tmp_path / "out", 1, n_epochs=1, batch_size=8)
    return finetune.train(spec, lambda _: None).folder


def test_plain_transformers_stops_at_the_end_of_a_turn(exported: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(exported), AutoModelForCausalLM.from_pretrained(exported)
    chat = [{"role": "user", "content": "Three weeks late."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    length, word = prompt["input_ids"].shape[1], tokenizer("late", add_special_tokens=False).input_ids[0]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    answer = model.generate(**prompt, max_new_tokens=9, logits_processor=[WritesOneWord(length, word, end)])
    assert answer[0, length:].tolist() == [word, end]
    assert model.generation_config.eos_token_id == [OTHER_END, end]


def test_others_may_read_its_files(exported: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    checkpoint = next((exported / "checkpoints").iterdir())
    for folder in (exported, checkpoint):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask
        files = [file for file in folder.iterdir() if file.is_file() and "resume" not in file.name]
        assert {"model.safetensors", "tokenizer.json", "config.json"} <= {file.name for file in files}
        assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {oct(0o666 & ~umask)}
