"""The arms of an experiment: each name's subject, checked for leaks, then evaluated on the test split.

An arm is one way to label the reviews: a baseline, a model with a prompt, the fine-tuned model, or one of its
checkpoints. All arms label the same test split, so that they can be compared.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.arms import CHECKPOINT, ArmConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.project import ChatFiles
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.evaluate import ask_all, evaluate_baseline, evaluate_model
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import CheckpointMetrics, InjectionMetrics
from reviewtune.evaluation.notices.arm_sentences import choice_sentence, never_answered_sentence
from reviewtune.evaluation.notices.capacity import shots_notice
from reviewtune.evaluation.prompt_injections import injection_metrics, read_injections
from reviewtune.evaluation.results import Evaluation, samples, unusable
from reviewtune.evaluation.subject import BaselineSubject, ModelSubject

if TYPE_CHECKING:
    from reviewtune.finetuning.model_record import ModelRecord

SHOWN = 3


def evaluate_arm(
    name: str,
    config: Config,
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    manifest: Path,
    valid: pd.DataFrame | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate a baseline or a prompt arm.

    Args:
        name: the arm's name in config.arms.
        config: the configuration.
        train: the training split, from which a baseline learns and a prompt arm draws examples.
        test: the test split.
        manifest: data/splits/manifest.json, with the test split's hash.
        valid: the validation split, as in `evaluate_model`.
        progress: receives messages and progress bars.

    Raises:
        LeakError: the training split or the validation split holds a test review.
        ProviderError: the model could not be asked.
    """
    arm, digest = config.arms[name], _test_sha256(manifest)
    known = {_source_of_knowledge(arm): train["text"].tolist()}
    if valid is not None:
        known["the validation split"] = valid["text"].tolist()
    refuse_leak(test, known, similarity=config.split.similarity)
    if not isinstance(arm, PromptArmConfig):
        subject = BaselineSubject.of_arm(name, arm)
        return evaluate_baseline(subject, train, test, config.data, test_sha256=digest, valid=valid)
    if notice := shots_notice(name, arm, list(config.data.labels), train):
        progress.message(notice)
    asked = ModelSubject.of_arm(name, arm, config, train)
    return _with_repeats(_ask(asked, config, test, valid, digest, progress), asked, test, progress)


def evaluate_finetuned(
    record: "ModelRecord",
    config: Config,
    test: pd.DataFrame,
    *,
    chat: Path,
    manifest: Path,
    hostile: Path,
    valid: pd.DataFrame | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate the fine-tuned model.

    Args:
        record: the model and the files it was trained on.
        config: the configuration.
        test: the test split.
        chat: the folder of the chat files.
        manifest: data/splits/manifest.json, with the test split's hash.
        hostile: the folder of hostile reviews; with evaluation.injections the model is asked about them too.
        valid: the validation split, as in `evaluate_model`.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the prompt changed since the training.
        LeakError: the chat files hold a test review.
        ProviderError: the model could not be asked.
    """
    from reviewtune.finetuning.model_record import refuse_unfit  # imports the openai client: baselines do not need it

    refuse_unfit(record, Prompt.of(config), chat, test, similarity=config.split.similarity)
    subject = ModelSubject.of_finetuned(record.model, config, record.trained_tokens)
    result = _ask(subject, config, test, valid, _test_sha256(manifest), progress)
    return _with_more_questions(result, subject, config, test, hostile, progress)


def evaluate_on_validation(
    record: "ModelRecord",
    config: Config,
    valid: pd.DataFrame,
    *,
    chat: Path,
    manifest: Path,
    hostile: Path,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate the fine-tuned model on the validation split, to choose between models without the test split.

    The model was not trained on these reviews; the provider only measured its loss on them.

    Args:
        record: the model and the files it was trained on.
        config: the configuration.
        valid: the validation split.
        chat: the folder of the chat files.
        manifest: data/splits/manifest.json, with the validation split's hash.
        hostile: as in `evaluate_finetuned`.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the prompt changed since the training.
        LeakError: the training file holds a validation review.
        ProviderError: the model could not be asked.
    """
    from reviewtune.finetuning.model_record import refuse_changed, refuse_seen

    prompt, training = Prompt.of(config), ChatFiles(chat).training
    refuse_changed(record, prompt, chat)
    refuse_seen(valid, [training], config.prompt, similarity=config.split.similarity, split="validation")
    subject = ModelSubject.of_finetuned(record.model, config, record.trained_tokens)
    digest = _sha256_of(manifest, "valid")
    choosing = valid if subject.asking.label_scores == "auto" else None  # otherwise these reviews' prior is the same
    result = evaluate_model(subject, valid, config.data, test_sha256=digest, valid=choosing, progress=progress)
    accuracy = result.metrics.accuracy
    progress.message(f"validation split: accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})")
    return _with_more_questions(result, subject, config, valid, hostile, progress)


def evaluate_checkpoint(
    epoch: int,
    record: "ModelRecord",
    config: Config,
    test: pd.DataFrame,
    *,
    chat: Path,
    manifest: Path,
    valid: pd.DataFrame | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate the model as it was after this epoch; the arguments are those of `evaluate_finetuned`.

    The result is for information: choosing a model by its score on the test split would be a leak.

    Raises:
        ConfigError: the provider kept no model of this epoch; otherwise as `evaluate_finetuned`.
    """
    from reviewtune.finetuning.model_record import refuse_unfit

    point = record.checkpoint(epoch)
    refuse_unfit(record, Prompt.of(config), chat, test, similarity=config.split.similarity)
    subject = replace(ModelSubject.of_finetuned(point.model, config), arm=f"{CHECKPOINT}{epoch}", kind="checkpoint")
    result = _ask(subject, config, test, valid, _test_sha256(manifest), progress)
    checkpoint = CheckpointMetrics(epoch=epoch, step=point.step, valid_loss=point.valid_loss)
    return result.with_extras(checkpoint=checkpoint)


def _ask(
    subject: ModelSubject,
    config: Config,
    test: pd.DataFrame,
    valid: pd.DataFrame | None,
    digest: str,
    progress: Progress,
) -> Evaluation:
    result = evaluate_model(subject, test, config.data, test_sha256=digest, valid=valid, progress=progress)
    _announce(result, progress)
    return result


def _announce(result: Evaluation, progress: Progress) -> None:
    metrics, bad = result.metrics, unusable(result)
    interval = f"{metrics.accuracy.low:.3f} to {metrics.accuracy.high:.3f}"
    never = never_answered_sentence(
        metrics.arm, result.scores.never_answered, of=len(result.scores.labels), shown=SHOWN
    )
    accuracy = f"{metrics.arm}: accuracy {metrics.accuracy.value:.3f} ({interval})"
    for line in filter(None, (choice_sentence(metrics), accuracy, never)):
        progress.message(line)
    if len(bad):
        progress.message(f"{counted(len(bad), 'unusable answer')}, counted as errors and listed in predictions.csv:")
        progress.message("\n".join(samples(bad, shown=SHOWN)))


def _with_more_questions(
    result: Evaluation,
    subject: ModelSubject,
    config: Config,
    reviews: pd.DataFrame,
    hostile: Path,
    progress: Progress,
) -> Evaluation:
    """The evaluation of the fine-tuned model, with repeats and hostile reviews if the configuration asks for them."""
    result = _with_repeats(result, subject, reviews, progress)
    if not config.evaluation.injections:
        return result
    return result.with_extras(injections=ask_injections(subject, config, hostile, progress))


def _with_repeats(result: Evaluation, subject: ModelSubject, test: pd.DataFrame, progress: Progress) -> Evaluation:
    """The evaluation, with how stable the labels are if the arm repeats its requests."""
    if not subject.asking.repeats:
        return result
    from reviewtune.evaluation.consistency import consistency

    return result.with_extras(consistency=consistency(subject, test["text"].tolist(), progress=progress))


def ask_injections(subject: ModelSubject, config: Config, folder: Path, progress: Progress) -> InjectionMetrics:
    """How the model handles the hostile reviews in `folder`, cut to data.max_characters as all reviews are.

    Raises:
        DataError: there are none.
        ProviderError: the model could not be asked.
    """
    attacks = read_injections(folder, list(config.data.labels))
    texts = [text[: config.data.max_characters] for text in attacks["text"]]
    asked = ask_all(subject, texts, title="hostile reviews", progress=progress)
    answers = [answer.text for answer in asked.answers]
    predicted = [subject.prompt.parse(answer) or INVALID for answer in answers]
    return injection_metrics(attacks, predicted, answers)


def _source_of_knowledge(arm: ArmConfig) -> str:
    """What the training split is to an arm, in the words of the leak's error message."""
    if not isinstance(arm, PromptArmConfig):
        return "the training split"
    return "the retrieval index" if arm.examples == "nearest" else "the pool of few-shot examples"


def _test_sha256(manifest: Path) -> str:
    return _sha256_of(manifest, "test")


def _sha256_of(manifest: Path, split: str) -> str:
    return str(read_json(manifest)["splits"][split]["sha256"])
