"""Train the new model and ask it about the test reviews, as the pipeline does; both are MLflow runs.

Without a teacher the chat files are those of the pipeline, so that a job that `dvc exp run -S provider=NAME` has placed
is found again, and the reverse. The evaluation's run can be promoted by its id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.project import ChatFiles, SplitFiles
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.chat import chat_files
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import read_reviews
from reviewtune.deployment.rebase.new_settings import NewSettings
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_finetuned
from reviewtune.evaluation.results import Evaluation
from reviewtune.finetuning import model_record
from reviewtune.finetuning.jobs import Order
from reviewtune.finetuning.model_record import ModelRecord
from reviewtune.finetuning.train import refuse_leaked, train
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, TRAINING_SECTIONS, describe_run
from reviewtune.tracking.runs import Run, RunKey, open_run

NAME = "rebase"


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """The new model and its evaluation on the test reviews.

    Args:
        record: the model and what it was trained on.
        training_run: MLflow run of its training.
        evaluation: its scores.
        run_id: MLflow run of its evaluation.
    """

    record: ModelRecord
    training_run: str
    evaluation: Evaluation
    run_id: str


def write_chat(settings: NewSettings, splits: SplitFiles, answers: pd.DataFrame, *, progress: Progress) -> ChatFiles:
    """Write and check the chat files: the labelled training reviews, then the old model's answers.

    Args:
        settings: of the new model.
        splits: the labelled reviews.
        answers: columns text, label; may be empty.
        progress: receives what is advised against.

    Raises:
        DataError: a file breaks a rule of the provider.
        LeakError: a test review is in one of the files, or a validation review in the training file.
    """
    config, chat = settings.config, ChatFiles(settings.folder / "chat")
    prompt, valid = Prompt.of(config), read_reviews(splits.valid)
    labelled = read_reviews(splits.train)[["text", "label"]]
    training = pd.concat([labelled, answers[["text", "label"]]], ignore_index=True)
    for reviews, path in zip((training, valid), chat.both, strict=True):
        chat_files.write_lines(path, chat_files.lines_of(reviews, prompt))
        for warning in chat_files.check(path, prompt).warnings:
            progress.message(f"warning: {warning}")
    refuse_leaked(config, splits, chat)
    model_record.refuse_seen(
        valid, [chat.training], config.prompt, similarity=config.split.similarity, split="validation"
    )
    return chat


def train_and_evaluate(
    settings: NewSettings,
    chat: ChatFiles,
    splits: SplitFiles,
    *,
    hostile: Path,
    tags: Mapping[str, object],
    progress: Progress = SILENT,
) -> NewModel:
    """Train the new model, or find its job again, and ask it about the test reviews.

    Args:
        settings: of the new model.
        chat: its files.
        splits: the reviews that it is trained with and asked about.
        hostile: the folder of hostile reviews.
        tags: of both runs, such as the teacher.
        progress: receives messages and progress bars.

    Raises:
        JobError: the job failed.
        ProviderError: the new provider refused a request or cannot be reached.
    """
    order = Order.of(settings.config, chat)
    key = RunKey(f"{NAME}:{settings.folder.name}:{order.key}", continues="any")
    with open_run(settings.config.tracking, name=NAME, kind="finetune", tags=tags, run_key=key) as run:
        record = _train(run, settings, order, splits, progress)
        training_run = run.id
    tags = {**tags, "job_id": record.job_id, "training_sha256": record.training_sha256}
    key = RunKey(f"{NAME}-evaluation:{settings.folder.name}:{order.key}", continues="any")
    with open_run(settings.config.tracking, name=NAME, kind="evaluation", tags=tags, run_key=key) as run:
        evaluation = _evaluate(run, settings, record, chat, splits, hostile, progress)
        return NewModel(record=record, training_run=training_run, evaluation=evaluation, run_id=run.id)


def _train(run: Run, settings: NewSettings, order: Order, splits: SplitFiles, progress: Progress) -> ModelRecord:
    config, folder = settings.config, settings.folder
    inputs = {"train": "training", "valid": "validation"}
    describe_run(run, config, sections=TRAINING_SECTIONS, inputs=inputs, params=settings.params, splits=splits)
    record, finetuned = train(run, config, order, splits=splits, models=folder, reports=folder, progress=progress)
    model_record.log_curve(run, record, finetuned)
    return record


def _evaluate(
    run: Run,
    settings: NewSettings,
    record: ModelRecord,
    chat: ChatFiles,
    splits: SplitFiles,
    hostile: Path,
    progress: Progress,
) -> Evaluation:
    inputs = {"valid": "validation", "test": "evaluation"}
    describe_run(
        run,
        settings.config,
        sections=EVALUATION_SECTIONS,
        inputs=inputs,
        params=settings.params,
        splits=splits,
    )
    result = evaluate_finetuned(
        record,
        settings.config,
        read_reviews(splits.test),
        chat=chat.folder,
        manifest=splits.manifest,
        hostile=hostile,
        valid=read_reviews(splits.valid),
        progress=progress,
    )
    _write(run, result, settings.folder / FINETUNED)
    run.text(record.model + "\n", "model_id.txt")
    return result


def _write(run: Run, result: Evaluation, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(result, folder)
    results.log(run, result, folder)
    results.write_run(result, folder, run.id)
