"""An exported adapter computes in peft, and merged in plain transformers, what the engine computes with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine import adapter_files, adapters, export
from reviewtune.local_server.engine.model_loading import load_model
from reviewtune.local_server.engine.training import finetune
from reviewtune.local_server.engine.training.recipes import Recipe
from reviewtune.local_server.engine.types import TrainingSpec
from tests.support.engine_models import asked, chat_file, one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
RECIPE = Recipe(learning_rate=1e-2, frozen_layers=0.5, n_epochs=2, batch_size=4, rank=4)


@pytest.fixture
def source(tmp_path: Path) -> export.Source:
    """An adapter of the tiny model."""
    spec = TrainingSpec(tiny(), chat_file(tmp_path / "train.jsonl"), None, tmp_path / "model", 1)
    list(finetune.TrainingRun(spec, RECIPE).run())
    return export.Source(spec.output, tiny())


def tokens_of(folder: Path) -> torch.Tensor:
    from transformers import AutoTokenizer

    chat = [{"role": turn.role, "content": turn.content} for turn in asked("Three weeks late.")]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    tokens: torch.Tensor = question["input_ids"]
    return tokens


def engine_scores(source: export.Source, tokens: torch.Tensor, *, with_adapter: bool = True) -> torch.Tensor:
    model = load_model(source.folder, torch.float32, "sdpa", source.base)
    adapters.use(model.network, model.adapter if with_adapter else None)
    with torch.inference_mode():
        scores: torch.Tensor = model.network(tokens.to(model.network.device)).logits.float().cpu()
    adapters.use(model.network, None)
    return scores


def test_peft_computes_the_same_with_the_adapter(source: export.Source, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    target = tmp_path / "adapter"
    target.mkdir()
    export.write(source, target, adapter=True)
    assert not (target / "config.json").exists()
    assert '"lora_alpha": 32,' in (target / "adapter_config.json").read_text()  # Ollama cannot read 32.0
    base = AutoModelForCausalLM.from_pretrained(tiny(), dtype=torch.float32)
    tokens = tokens_of(target)
    with torch.inference_mode():
        scores = PeftModel.from_pretrained(base, target)(tokens).logits
    expected = engine_scores(source, tokens)
    assert torch.allclose(scores, expected, atol=1e-3)
    assert not torch.allclose(expected, engine_scores(source, tokens, with_adapter=False), atol=1e-2)


def test_plain_transformers_computes_the_same_with_merged_weights(source: export.Source, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    target = tmp_path / "merged"
    target.mkdir()
    export.write(source, target, adapter=False)
    model: Any = AutoModelForCausalLM.from_pretrained(target)
    assert model.dtype == torch.bfloat16
    assert not model.generation_config.do_sample
    tokens = tokens_of(target)
    with torch.inference_mode():
        scores = model.float()(tokens).logits
    expected, base = (engine_scores(source, tokens, with_adapter=with_adapter) for with_adapter in (True, False))
    assert (scores - expected).abs().mean() < 0.1 * (expected - base).abs().mean()  # the rest is rounding to bf16
    size = sum(file.stat().st_size for file in target.iterdir())
    assert abs(export.size_of(source, adapter=False) / size - 1) < 0.02


@pytest.mark.parametrize("adapter", [True, False])
def test_settings_of_the_base_that_change_answers_are_not_exported(
    source: export.Source, tmp_path: Path, adapter: bool
) -> None:
    """The local provider does not use them; Qwen's own file has a penalty for repetition."""
    from transformers import GenerationConfig

    base = Path(shutil.copytree(tiny(), tmp_path / "base"))
    penalizing = GenerationConfig(eos_token_id=2, do_sample=True, top_k=5, repetition_penalty=1.1, num_beams=4)
    penalizing.save_pretrained(base)
    target = tmp_path / "exported"
    target.mkdir()
    export.write(export.Source(source.folder, base), target, adapter=adapter)
    written = json.loads((target / "generation_config.json").read_text())
    assert "top_k" not in written
    used = GenerationConfig(**(json.loads((base / "generation_config.json").read_text()) | written))
    assert (used.do_sample, used.num_beams, used.repetition_penalty) == (False, 1, 1.0)
    assert used.eos_token_id == 2


def test_an_adapter_of_another_base_is_refused(source: export.Source, tmp_path: Path) -> None:
    stamp = source.folder / adapter_files.STAMP
    stamp.write_text(json.dumps({"base": "other"}))
    with pytest.raises(ProviderError, match="was not trained for the base model"):
        export.write(source, tmp_path, adapter=False)
