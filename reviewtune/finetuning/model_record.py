"""The record of a fine-tuned model: models/finetuned.json, beside it models/run.json with what differs between runs."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.core.atomic_files import read_json, write_json
from reviewtune.core.config import PromptConfig
from reviewtune.data.chat_files import read_lines
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.errors import ConfigError, DataError, LeakError
from reviewtune.finetuning.jobs import Finetuned, Order
from reviewtune.finetuning.loss_plot import training_curve
from reviewtune.tracking.runs import Run

RECORD, RUN, CURVE, PICTURE = "finetuned.json", "run.json", "training_curve.csv", "training_curve.png"


@dataclass(frozen=True)
class ModelRecord:
    """Everything that names the model and what it has seen. Equal for equal orders at the local provider."""

    model: str
    job_id: str
    base_model: str
    provider: str
    prompt_fingerprint: str
    training_sha256: str
    validation_sha256: str
    test_sha256: str  # of the split that it must not have seen
    run_key: str
    seed: int
    hyperparameters: dict[str, Any]
    trained_tokens: int
    checkpoints: list[dict[str, Any]]

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        """Step, model and valid_loss of the model after this epoch; providers keep only the last few.

        Raises:
            ConfigError: it was not kept.
        """
        resolved = self.hyperparameters.get("n_epochs")
        epochs = resolved if isinstance(resolved, int) else len(self.checkpoints)
        steps = self.checkpoints[-1]["step"] if self.checkpoints else 1  # the last one is the finished model
        kept = {round(epochs * point["step"] / steps): point for point in self.checkpoints}
        if epoch not in kept:
            raise ConfigError(
                f"evaluation.checkpoints: the provider kept no model of epoch {epoch} of {self.model}; "
                f"kept: {', '.join(map(str, kept)) or 'none'}"
            )
        return kept[epoch]


def record_of(finetuned: Finetuned, order: Order, prompt: Prompt, *, test_sha256: str) -> ModelRecord:
    job = finetuned.job
    return ModelRecord(
        model=finetuned.model,
        job_id=job.id,
        base_model=order.provider.base_model,
        provider=order.provider.kind,
        prompt_fingerprint=prompt.fingerprint,
        training_sha256=sha256(order.training_file),
        validation_sha256=sha256(order.validation_file) if order.validation_file else "",
        test_sha256=test_sha256,
        run_key=order.key,
        seed=job.seed,
        hyperparameters=_hyperparameters(finetuned),
        trained_tokens=job.trained_tokens or 0,
        checkpoints=finetuned.checkpoints,
    )


def write_record(record: ModelRecord, finetuned: Finetuned, *, models: Path, reports: Path) -> None:
    """finetuned.json and the loss curve as CSV."""
    write_json(asdict(record), models / RECORD)
    reports.mkdir(parents=True, exist_ok=True)
    _with_full(finetuned).to_csv(reports / CURVE, index=False, lineterminator="\n")


def picture_of(curve: Path) -> bytes:
    """The loss curve that `write_record` wrote, as PNG; the last step's model is the one that was chosen."""
    table = pd.read_csv(curve)
    return training_curve(table, chosen_step=int(table["step"].max()) if len(table) else None)


def write_run(finetuned: Finetuned, models: Path, run_id: str) -> None:
    job = finetuned.job
    seconds = (job.finished_at or int(time.time())) - job.created_at
    write_json({"mlflow_run_id": run_id, "job_seconds": seconds}, models / RUN)


def read_record(path: Path) -> ModelRecord:
    """The model that the last fine-tune made.

    Raises:
        DataError: there is none, or the file is not what `write_record` wrote.
    """
    try:
        return ModelRecord(**read_json(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no fine-tuned model yet; run `dvc repro finetune`") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}; run `dvc repro finetune` to write it anew") from error


def refuse_unfit(record: ModelRecord, prompt: Prompt, chat: Path, test: pd.DataFrame, *, similarity: float) -> None:
    """Refuse to score a model that is asked differently from how it was taught, or that has seen a test review.

    Raises:
        ConfigError: the prompt is not the one of the training file.
        LeakError: the chat files are not those of the training, or hold a test review.
    """
    if record.prompt_fingerprint != prompt.fingerprint:
        raise ConfigError(
            f"model {record.model} was trained with prompt {record.prompt_fingerprint}, conf/ says "
            f"{prompt.fingerprint} ({prompt.settings.name}); run `dvc repro` to train it anew"
        )
    seen = {"training_data.jsonl": record.training_sha256, "validation_data.jsonl": record.validation_sha256}
    for name, digest in seen.items():
        if sha256(chat / name) != digest:
            raise LeakError(f"{chat / name} is not the file that {record.model} was trained with; run `dvc repro`")
    refuse_seen(test, [chat / name for name in seen], prompt.settings, similarity=similarity)


def refuse_seen(test: pd.DataFrame, files: Sequence[Path], settings: PromptConfig, *, similarity: float) -> None:
    """Raises: LeakError: a test review stands in one of these chat files."""
    refuse_leak(test, {file.name: texts_of(file, settings) for file in files}, similarity=similarity)


def texts_of(path: Path, settings: PromptConfig) -> list[str]:
    """The reviews in a chat file, without what the prompt puts around them."""
    before, _, after = settings.user.partition("{text}")
    users = (line["messages"][-2]["content"] for line in read_lines(path))
    return [user.removeprefix(before).removesuffix(after) for user in users]


def log(run: Run, record: ModelRecord, *, models: Path, reports: Path) -> None:
    """The model's names as tags, the record, the curve's files and the files' hashes."""
    with run.together():
        _note(run, record)
    run.text(record.model + "\n", "model_id.txt")
    run.json({"training": record.training_sha256, "validation": record.validation_sha256}, "chat_files_sha256.json")
    for path in (models / RECORD, reports / CURVE):
        run.artifact(path)


def _note(run: Run, record: ModelRecord) -> None:
    run.tags(
        {
            "model": record.model,
            "job_id": record.job_id,
            "base_model": record.base_model,
            "provider": record.provider,
            "prompt_fingerprint": record.prompt_fingerprint,
            "training_sha256": record.training_sha256,
        }
    )
    run.params({"resolved": record.hyperparameters})


def log_curve(run: Run, record: ModelRecord, finetuned: Finetuned) -> None:
    """Metrics by step. Of a run with other metrics last: MLflow's compare page plots the one that was logged first."""
    run.series(finetuned.curve, "step")
    run.series(finetuned.epoch_ends, "step")
    run.metrics({"trained_tokens": record.trained_tokens})


def _hyperparameters(finetuned: Finetuned) -> dict[str, Any]:
    """As the provider resolved them: numbers where `auto` was asked."""
    found = finetuned.job.hyperparameters
    return found.model_dump(exclude_none=True) if found else {}


def _with_full(finetuned: Finetuned) -> pd.DataFrame:
    return finetuned.curve.merge(finetuned.epoch_ends, on="step", how="left")
