"""The arms of the experiment: which subject an arm's name stands for, checked for leaks, then evaluated."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config import CHECKPOINT, ArmConfig, Config, PromptArmConfig
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.evaluate import ask_all, evaluate_linear, evaluate_model
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.prompt_injections import injection_score, read_injections
from reviewtune.evaluation.results import Evaluation, samples, unusable
from reviewtune.evaluation.subject import Subject

if TYPE_CHECKING:
    from reviewtune.finetuning.model_record import ModelRecord

SHOWN = 3


def evaluate_arm(name: str, config: Config, train: pd.DataFrame, test: pd.DataFrame, *, manifest: Path) -> Evaluation:
    """A baseline or a prompt arm of config.arms.

    Raises:
        LeakError: the training split, from which it learns or draws examples, holds a test review.
        ProviderError: the model could not be asked.
    """
    arm, digest = config.arms[name], _test_sha256(manifest)
    refuse_leak(test, {_knowledge(arm): train["text"].tolist()}, similarity=config.split.similarity)
    if not isinstance(arm, PromptArmConfig):
        return evaluate_linear(name, arm, train, test, config.data, test_sha256=digest)
    subject = Subject.of_arm(name, arm, config.data.labels, train)
    return _repeated(_ask(subject, config, test, digest), config, test)


def evaluate_finetuned(
    record: "ModelRecord",
    config: Config,
    test: pd.DataFrame,
    *,
    chat: Path,
    manifest: Path,
    hostile: Path,
) -> Evaluation:
    """The fine-tuned model; with evaluation.injections also how it takes the reviews in the folder `hostile`, which
    give it orders.

    Raises:
        ConfigError: the prompt changed since the training.
        LeakError: a test review stands in the chat files.
        ProviderError: the model could not be asked.
    """
    from reviewtune.finetuning.model_record import (
        refuse_unfit,  # with it the openai client: 0.8 s that the baselines do without
    )

    refuse_unfit(record, Prompt.of(config), chat, test, similarity=config.split.similarity)
    subject = Subject.of_finetuned(record.model, config, record.trained_tokens)
    result = _repeated(_ask(subject, config, test, _test_sha256(manifest)), config, test)
    if config.evaluation.injections:
        result.metrics["injections"] = _injections(subject, config, hostile)
    return result


def evaluate_checkpoint(
    epoch: int, record: "ModelRecord", config: Config, test: pd.DataFrame, *, chat: Path, manifest: Path
) -> Evaluation:
    """The model as it was after this epoch. To look at, not to choose by: choosing by the test split would be a leak.

    Raises:
        ConfigError: the provider kept no model of this epoch; else as `evaluate_finetuned`.
    """
    from reviewtune.finetuning.model_record import refuse_unfit

    point = record.checkpoint(epoch)
    refuse_unfit(record, Prompt.of(config), chat, test, similarity=config.split.similarity)
    subject = Subject.of_finetuned(point["model"], config)
    subject = replace(subject, arm=f"{CHECKPOINT}{epoch}", kind="checkpoint", repeats=0)
    result = _ask(subject, config, test, _test_sha256(manifest))
    result.metrics["checkpoint"] = {"epoch": epoch, "step": point["step"], "valid_loss": point["valid_loss"]}
    return result


def _repeated(result: Evaluation, config: Config, test: pd.DataFrame) -> Evaluation:
    """The evaluation, with how stable its labels are if the arm is to be asked again."""
    if result.subject.repeats:
        from reviewtune.evaluation.consistency import consistency

        found = consistency(result.subject, test["text"].tolist(), config.prices, config.evaluation)
        result.metrics["consistency"] = found
    return result


def _injections(subject: Subject, config: Config, folder: Path) -> dict[str, Any]:
    """How the model takes hostile reviews; those that it falls for are listed with its answer.

    They are cut to data.max_characters, beyond which nothing is a review here.
    """
    attacks = read_injections(folder, list(config.data.labels))
    texts = [text[: config.data.max_characters] for text in attacks["text"]]
    assert subject.prompt is not None
    asked = ask_all(subject, texts, config.prices, config.evaluation, title="hostile reviews")
    answers = [answer.text for answer in asked.answers]
    predicted = [subject.prompt.parse(answer) or INVALID for answer in answers]
    fell = (
        {"id": name, "answer": answer}
        for name, answer, label, target in zip(attacks["id"], answers, predicted, attacks["target"], strict=True)
        if label in (target, INVALID)
    )
    return {**injection_score(attacks, predicted), "fell_for": list(fell)}


def _knowledge(arm: ArmConfig) -> str:
    """What the training split is to an arm, in the words of a leak's message."""
    if not isinstance(arm, PromptArmConfig):
        return "the training split"
    return "the retrieval index" if arm.examples == "nearest" else "the pool of few-shot examples"


def _ask(subject: Subject, config: Config, test: pd.DataFrame, digest: str) -> Evaluation:
    result = evaluate_model(subject, test, config.data, config.prices, config.evaluation, test_sha256=digest)
    _say(result)
    return result


def _say(result: Evaluation) -> None:
    accuracy, bad = result.metrics["accuracy"], unusable(result)
    print(f"{result.subject.arm}: accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})")
    if len(bad):
        print(f"{len(bad)} unusable answer(s), counted as errors and listed in predictions.csv:")
        print(*samples(bad, shown=SHOWN), sep="\n")


def _test_sha256(manifest: Path) -> str:
    return str(read_json(manifest)["splits"]["test"]["sha256"])
