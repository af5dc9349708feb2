"""The record of a fine-tune that never ran: its chat files and its models/finetuned.json."""

from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.data.chat.chat_files import lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.finetuning.checkpoints import Checkpoint
from reviewtune.finetuning.model_record import Hyperparameters, ModelRecord


def recorded(
    model: str, prompt: Prompt, rows: pd.DataFrame, chat: Path, *, checkpoints: list[dict[str, Any]]
) -> ModelRecord:
    """Trained and validated on the same rows (`text`, `label`), which are written below `chat`."""
    files = [chat / f"{name}_data.jsonl" for name in ("training", "validation")]
    for file in files:
        write_lines(file, lines_of(rows, prompt))
    return ModelRecord(
        model=model,
        job_id="j",
        base_model=model,
        provider="local",
        prompt_fingerprint=prompt.fingerprint,
        training_sha256=sha256(files[0]),
        validation_sha256=sha256(files[1]),
        test_sha256="t",
        order_key="k",
        seed=1,
        hyperparameters=Hyperparameters(),
        trained_tokens=1,
        checkpoints=tuple(Checkpoint(**checkpoint) for checkpoint in checkpoints),
    )
