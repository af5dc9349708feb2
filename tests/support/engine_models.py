"""Models for the engine's tests: the real bundled ones, and one with their tokenizer, two layers and random weights."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core.user_dirs import cache_folder
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.engine.types import ChatMessage

SYSTEM = "Name the main issue."
LABELS = ("delivery_delay", "damaged_item", "no_issue")
REVIEWS = {
    "delivery_delay": ("Three weeks late.", "Still waiting for my parcel.", "Tracking has not moved since May."),
    "damaged_item": ("The cup came in pieces.", "Box crushed, lamp bent.", "It leaked all over the parcel."),
    "no_issue": ("Lovely, thanks!", "Works as it should.", "My third one, great."),
}
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": list(LABELS)}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More threads only slow down models this small, many times over on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real(name: str) -> Path:
    return ensure(name, cache_folder())


@cache
def tiny(window: int = 4096) -> Path:
    """A Gemma of two layers, one with full attention and one that attends to the last `window` tokens."""
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    folder = Path(tempfile.mkdtemp(prefix="tiny-"))
    tokenizer = AutoTokenizer.from_pretrained(real("smollm2-135m-instruct"))
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=512,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention"],
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def tiny_adapter(label: str) -> Path:
    """An adapter of `tiny()` that learned to answer with this label."""
    from reviewtune.local_server.engine.training.finetune import TrainingRun
    from reviewtune.local_server.engine.training.recipes import Recipe
    from reviewtune.local_server.engine.types import TrainingSpec

    folder = Path(tempfile.mkdtemp(prefix="adapter-"))
    answer = ChatMessage("assistant", label)
    lines = [line((*asked(text), answer)) for texts in REVIEWS.values() for text in texts]
    spec = TrainingSpec(tiny(), write(folder / "train.jsonl", lines), None, folder / "model", seed=1, n_epochs=10)
    for _ in TrainingRun(spec, Recipe(learning_rate=3e-2, frozen_layers=0.5, batch_size=3, rank=4)).run():
        pass
    return folder / "model"


def asked(review: str, *examples: tuple[str, str]) -> tuple[ChatMessage, ...]:
    turns = [ChatMessage("system", SYSTEM)]
    for text, label in examples:
        turns += [ChatMessage("user", f"Review: {text}"), ChatMessage("assistant", json.dumps({"label": label}))]
    return (*turns, ChatMessage("user", f"Review: {review}"))


def chat_file(path: Path, repeats: int = 1) -> Path:
    """A chat file with one labelled review per line."""
    rows = [(text, label) for label, texts in REVIEWS.items() for text in texts] * repeats
    return write(
        path, [line((*asked(text), ChatMessage("assistant", json.dumps({"label": label})))) for text, label in rows]
    )


def line(messages: Sequence[ChatMessage]) -> dict[str, Any]:
    return {"messages": [{"role": message.role, "content": message.content} for message in messages]}


def write(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
