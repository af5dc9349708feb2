"""Models of families without a recipe of their own: trained with adapters, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
    SiglipVisionConfig,
    StableLmConfig,
)

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.model_loading import without_weights
from reviewtune.local_server.engine.training import finetune
from reviewtune.local_server.engine.types import ADAPTER_CONFIG, GenerationRequest, StepMetrics, TrainingSpec
from tests.support.engine_models import LABELS, SCHEMA, asked, chat_file, one_thread, real

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


@pytest.mark.parametrize("family", [MistralConfig, Phi3Config, Qwen3Config])  # Phi-3 has one map for q, k and v
def test_other_families_are_trained_with_adapters(tmp_path: Path, family: type[PreTrainedConfig]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real("smollm2-135m-instruct"))
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(family(**SIZES, vocab_size=len(tokenizer))).save_pretrained(base)
    tokenizer.save_pretrained(base)
    file, losses = chat_file(tmp_path / "train.jsonl"), []
    spec = TrainingSpec(base, file, None, tmp_path / "out", 1, n_epochs=3, learning_rate_multiplier=20.0)
    tuned = finetune.train(spec, lambda news: losses.append(news.train_loss) if isinstance(news, StepMetrics) else None)
    assert losses[-1] < losses[0]
    assert (tuned.folder / ADAPTER_CONFIG).exists()
    request = GenerationRequest(asked("Three weeks late."), temperature=0, schema=SCHEMA)
    (answer,) = generate.load(tuned.folder).complete([request])
    assert answer.choices[0].text in {f'{{"label": "{label}"}}' for label in LABELS}


def test_a_model_that_also_reads_images_is_trained_on_texts(tmp_path: Path) -> None:
    """Its sizes are in a part of its configuration."""
    tokenizer = AutoTokenizer.from_pretrained(real("smollm2-135m-instruct"))
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = Gemma3TextConfig(**SIZES, head_dim=16, query_pre_attn_scalar=16, vocab_size=len(tokenizer))
    config = Gemma3Config(text_config=text, vision_config=SiglipVisionConfig(**vision, image_size=28, patch_size=14))
    base, losses = tmp_path / "base", []
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    file = chat_file(tmp_path / "train.jsonl")
    spec = TrainingSpec(base, file, None, tmp_path / "out", 1, n_epochs=3, learning_rate_multiplier=20.0)
    tuned = finetune.train(spec, lambda news: losses.append(news.train_loss) if isinstance(news, StepMetrics) else None)
    assert losses[-1] < losses[0]
    request = GenerationRequest(asked("Three weeks late."), temperature=0, schema=SCHEMA)
    (answer,) = generate.load(tuned.folder).complete([request])
    assert answer.choices[0].text in {f'{{"label": "{label}"}}' for label in LABELS}


@pytest.mark.parametrize("family", [GPT2Config, StableLmConfig])
def test_families_that_cannot_be_computed_are_refused(tmp_path: Path, family: type[PreTrainedConfig]) -> None:
    family(**SIZES).save_pretrained(tmp_path)
    with pytest.raises(ProviderError, match=rf"of the family {family.model_type}, which the local provider does not"):
        without_weights(tmp_path)
