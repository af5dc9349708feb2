"""models/finetuned.json, the record of a fine-tuned model, and the check that a model may be evaluated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.config import Config
from reviewtune.core.config.training import PromptConfig
from reviewtune.core.project import ChatFiles, SplitFiles
from reviewtune.core.result_file import ResultFile, read_result, write_result
from reviewtune.data.chat.chat_files import numbered_lines
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.errors import ConfigError, DataError, LeakError
from reviewtune.finetuning.checkpoints import Checkpoint
from reviewtune.finetuning.jobs import Finetuned, Order
from reviewtune.finetuning.loss_plot import training_curve
from reviewtune.finetuning.run_file import write_finetune_run
from reviewtune.tracking.runs import Run

RECORD, CURVE, PICTURE = "finetuned.json", "training_curve.csv", "training_curve.png"


class Hyperparameters(BaseModel):
    """The values that the provider resolved `auto` to. A provider may report more than these; unknown ones are kept.

    The file holds the values that the provider reported.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    batch_size: int | str | None = Field(None, description="examples per training step")
    learning_rate_multiplier: float | str | None = Field(None, description="factor on the provider's learning rate")
    n_epochs: int | str | None = Field(None, description="passes over the training file")

    @model_serializer(mode="wrap")
    def _reported(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class ModelRecord(ResultFile):
    """What identifies the model and what it has seen. Equal orders at the local provider give equal bytes."""

    model: str = Field(description="name under which the provider serves the model")
    job_id: str = Field(description="id of the fine-tuning job")
    base_model: str = Field(description="the model that the training started from")
    provider: str = Field(description="provider.kind")
    prompt_fingerprint: str = Field(description="hash of the prompt of the chat files; the model must be asked with it")
    training_sha256: str = Field(description="hash of the training file")
    validation_sha256: str = Field(description="hash of the validation file; empty: there was none")
    test_sha256: str = Field(description="hash of the test split, which the model must not have seen")
    order_key: str = Field(
        validation_alias=AliasChoices("order_key", "run_key"),  # files without a version call it run_key
        description="hash of the files, base model, settings and provider that the job was created with",
    )
    seed: int | None = Field(description="seed of the order of the examples; null: the provider did not report it")
    hyperparameters: Hyperparameters = Field(description="the job's settings, as the provider resolved them")
    trained_tokens: int = Field(description="tokens that the provider counted, in all epochs; 0: not reported")
    checkpoints: tuple[Checkpoint, ...] = Field(description="the models that the provider kept, in order of step")
    data: str = Field("", description="data.name at the training; empty: a record of an earlier release")
    data_sha256: str = Field("", description="hash of the labelled reviews that were split; empty as above")
    labels: tuple[str, ...] = Field((), description="the labels that the model was trained to give; empty as above")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the model and of its checkpoints."""
        return (self.model, *(checkpoint.model for checkpoint in self.checkpoints))

    def checkpoint(self, epoch: int) -> Checkpoint:
        """The model after this epoch; providers keep only the last few.

        Raises:
            ConfigError: the provider did not keep it.
        """
        resolved = self.hyperparameters.n_epochs
        epochs = resolved if isinstance(resolved, int) else len(self.checkpoints)
        steps = self.checkpoints[-1].step if self.checkpoints else 1  # the last one is the finished model
        by_epoch = {round(epochs * checkpoint.step / steps): checkpoint for checkpoint in self.checkpoints}
        if epoch not in by_epoch:
            raise ConfigError(
                f"evaluation.checkpoints: the provider kept no model of epoch {epoch} of {self.model}; "
                f"kept: {', '.join(map(str, by_epoch)) or 'none'}"
            )
        return by_epoch[epoch]


def record_of(finetuned: Finetuned, order: Order, config: Config, splits: SplitFiles) -> ModelRecord:
    """The record of a finished job.

    Args:
        finetuned: the job and its results.
        order: what the job was created from.
        config: the configuration that the chat files were written with.
        splits: what they were written from.
    """
    job, manifest = finetuned.job, read_json(splits.manifest)
    reported = job.hyperparameters.model_dump(exclude_none=True) if job.hyperparameters else {}
    return ModelRecord(
        model=finetuned.model,
        job_id=job.id,
        base_model=order.provider.base_model,
        provider=order.provider.kind,
        prompt_fingerprint=Prompt.of(config).fingerprint,
        training_sha256=order.hashes[0],  # of the files that were uploaded, which may have changed since
        validation_sha256=order.hashes[1] if order.validation_file else "",
        test_sha256=sha256(splits.test),
        order_key=order.key,
        seed=job.seed,
        hyperparameters=Hyperparameters(**reported),
        trained_tokens=job.trained_tokens or 0,
        checkpoints=finetuned.checkpoints,
        data=config.data.name,
        data_sha256=str(manifest["data_sha256"]),
        labels=tuple(config.data.labels),
    )


def write_record(record: ModelRecord, finetuned: Finetuned, *, models: Path, reports: Path) -> None:
    """Write finetuned.json into `models` and the loss curve as CSV into `reports`."""
    write_result(record, models / RECORD)
    reports.mkdir(parents=True, exist_ok=True)
    table = finetuned.curve.merge(finetuned.epoch_ends, on="step", how="left")
    table.to_csv(reports / CURVE, index=False, lineterminator="\n")


def picture_of(curve: Path) -> bytes:
    """The loss curve that `write_record` wrote, as PNG; the model of the last step is marked as the chosen one."""
    table = pd.read_csv(curve)
    return training_curve(table, chosen_step=int(table["step"].max()) if len(table) else None)


def write_run(finetuned: Finetuned, models: Path, run_id: str) -> None:
    """Write run.json into `models`."""
    write_finetune_run(finetuned.job, models, run_id)


def read_record(path: Path) -> ModelRecord:
    """The record of the project's last fine-tune.

    Raises:
        DataError: there is none, or the file is damaged.
    """
    return read_result(
        path,
        ModelRecord,
        if_missing="no fine-tuned model yet; run `dvc repro finetune`",
        if_damaged="run `dvc repro --force finetune` to write it again, which pays for no second job",
    )


def fitting_record(path: Path, model: str | None, config: Config) -> ModelRecord | None:
    """The record of the model that is to be asked, after the check that the configuration describes it.

    Args:
        path: models/finetuned.json.
        model: the model's name; None: the project's last fine-tune.
        config: the configuration.

    Returns:
        The record; None if the project has no record of this model.

    Raises:
        ConfigError: as `refuse_other_configuration`.
        DataError: `model` is None, and there is no fine-tune; or the file is damaged.
    """
    if model is not None and not path.exists():
        return None
    record = read_record(path)
    if model is not None and model not in record.names:
        return None
    refuse_other_configuration(record, config)
    return record


def refuse_other_configuration(record: ModelRecord, config: Config) -> None:
    """Refuse to ask a model that was trained with different data, labels or prompt than the configuration describes.

    Its answers would be labels of the other data set. A record of an earlier release has a prompt only.

    Raises:
        ConfigError: the model does not fit.
    """
    prompt = Prompt.of(config)
    difference = None
    if record.data and record.data != config.data.name:
        difference = f"data set {record.data}, but params.yaml describes {config.data.name}"
    elif record.labels and record.labels != tuple(config.data.labels):
        difference = f"labels {', '.join(record.labels)}, but params.yaml has {', '.join(config.data.labels)}"
    elif record.prompt_fingerprint != prompt.fingerprint:
        difference = f"prompt {record.prompt_fingerprint}, but params.yaml has {prompt.fingerprint}"
    if difference:
        hint = "run `dvc checkout` for the model that dvc.lock names, or `dvc repro` to train one that fits"
        raise ConfigError(f"models/finetuned.json: {record.model} was trained with {difference}; {hint}")


def refuse_unfit(record: ModelRecord, prompt: Prompt, chat: Path, test: pd.DataFrame, *, similarity: float) -> None:
    """Refuse to evaluate a model with a different prompt than it was trained with, or on reviews that it has seen.

    Args:
        record: the model.
        prompt: the prompt that the model would be asked with.
        chat: folder of the chat files.
        test: the test reviews, with columns review_id and text.
        similarity: from this similarity on, two texts count as the same review.

    Raises:
        ConfigError: the prompt differs from that of the training file.
        LeakError: the chat files are not those of the training, or they contain a test review.
    """
    refuse_changed(record, prompt, chat)
    refuse_seen(test, ChatFiles(chat).both, prompt.settings, similarity=similarity)


def refuse_changed(record: ModelRecord, prompt: Prompt, chat: Path) -> None:
    """Refuse to ask a model with a different prompt, or next to different chat files, than it was trained with.

    Raises:
        ConfigError: the prompt differs from that of the training file.
        LeakError: the chat files are not those of the training.
    """
    if record.prompt_fingerprint != prompt.fingerprint:
        raise ConfigError(
            f"model {record.model} was trained with prompt {record.prompt_fingerprint}, but conf/ describes "
            f"{prompt.fingerprint} ({prompt.settings.name}); run `dvc repro` to train it again"
        )
    hashes = {"training_data.jsonl": record.training_sha256, "validation_data.jsonl": record.validation_sha256}
    for name, digest in hashes.items():
        if sha256(chat / name) != digest:
            raise LeakError(f"{chat / name} is not the file that {record.model} was trained with; run `dvc repro`")


def refuse_seen(
    test: pd.DataFrame, files: Sequence[Path], settings: PromptConfig, *, similarity: float, split: str = "test"
) -> None:
    """Refuse reviews of a measurement that are in one of these chat files; `split` names theirs in the message.

    Raises:
        DataError: a chat file was not written with this prompt.
        LeakError: a review, or a near-duplicate of one, is in a chat file.
    """
    known = {file.name: texts_of(file, settings) for file in files}
    refuse_leak(test, known, similarity=similarity, split=split)


def texts_of(path: Path, settings: PromptConfig) -> list[str]:
    """The reviews in a chat file, without the text that the prompt adds.

    They are read from the chat file and not from data/splits, because the chat file is what the model has seen: its
    hash is in the model's record, whereas the splits may have been written again since.

    Raises:
        DataError: a line does not have the prompt's form, so that its review is not known.
    """
    reviews = []
    for number, line in numbered_lines(path):
        review = _without_prompt(line["messages"][-2]["content"], settings.user)
        if review is None:
            problem = f"the user message does not have the form of prompt {settings.name}"
            raise DataError(f"{path} line {number}: {problem}; run `dvc repro format` to write the file again")
        reviews.append(review)
    return reviews


def _without_prompt(message: str, template: str) -> str | None:
    """The text that was filled in for each `{text}` of the template; None if the message is not made from it."""
    before, *rest = template.split("{text}")
    length = (len(message) - len(before) - sum(map(len, rest))) // max(len(rest), 1)
    text = message[len(before) : len(before) + max(length, 0)]
    return text if template.replace("{text}", text) == message else None


def log(run: Run, record: ModelRecord, *, models: Path, reports: Path) -> None:
    """Log the model's names as tags, its settings, the record and the loss curve."""
    with run.together():
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
        run.params({"resolved": record.hyperparameters.model_dump()})
    run.text(record.model + "\n", "model_id.txt")
    run.json({"training": record.training_sha256, "validation": record.validation_sha256}, "chat_files_sha256.json")
    for path in (models / RECORD, reports / CURVE):
        run.artifact(path)


def log_curve(run: Run, record: ModelRecord, finetuned: Finetuned) -> None:
    """Log the losses by step. Call it last: MLflow's page of compared runs plots the metric that was logged first."""
    run.series(finetuned.curve, "step")
    run.series(finetuned.epoch_ends, "step")
    run.metrics({"trained_tokens": record.trained_tokens})
