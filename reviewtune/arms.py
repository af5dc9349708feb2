"""The arms of the experiment: which subject an arm's name stands for, checked for leaks, then evaluated."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reviewtune.config import Config, LinearArm
from reviewtune.evaluation import Evaluation, Subject, evaluate_linear, evaluate_model, unusable
from reviewtune.files import read_json
from reviewtune.leaks import refuse_leak
from reviewtune.prompts import Prompt

if TYPE_CHECKING:
    from reviewtune.record import ModelRecord

SHOWN = 3


def evaluate_arm(name: str, config: Config, train: pd.DataFrame, test: pd.DataFrame, *, manifest: Path) -> Evaluation:
    """A baseline or a prompt arm of config.arms.

    Raises:
        LeakError: the training split, from which it learns or draws examples, holds a test review.
        ProviderError: the model could not be asked.
    """
    arm, digest = config.arms[name], _test_sha256(manifest)
    refuse_leak(test, {"the training split": train["text"].tolist()}, similarity=config.split.similarity)
    if isinstance(arm, LinearArm):
        return evaluate_linear(name, train, test, config.data, seed=arm.seed, test_sha256=digest)
    return _ask(Subject.of_arm(name, arm, config.data.labels, train), config, test, digest)


def evaluate_finetuned(
    record: "ModelRecord", config: Config, test: pd.DataFrame, *, chat: Path, manifest: Path
) -> Evaluation:
    """The fine-tuned model.

    Raises:
        ConfigError: the prompt changed since the training.
        LeakError: a test review stands in the chat files.
        ProviderError: the model could not be asked.
    """
    from reviewtune.record import refuse_unfit  # with it the openai client: 0.8 s that the baselines do without

    refuse_unfit(record, Prompt(config.prompt, config.data.labels), chat, test, similarity=config.split.similarity)
    return _ask(Subject.of_finetuned(record.model, config, record.trained_tokens), config, test, _test_sha256(manifest))


def _ask(subject: Subject, config: Config, test: pd.DataFrame, digest: str) -> Evaluation:
    result = evaluate_model(subject, test, config.data, config.prices, config.evaluation, test_sha256=digest)
    _say(result)
    return result


def _say(result: Evaluation) -> None:
    accuracy, bad = result.metrics["accuracy"], unusable(result)
    print(f"{result.subject.arm}: accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})")
    if len(bad):
        print(f"{len(bad)} unusable answer(s), counted as errors and listed in predictions.csv:")
        for row in bad.head(SHOWN).itertuples():
            print(f"  {row.review_id}: {row.answer!r}")


def _test_sha256(manifest: Path) -> str:
    return str(read_json(manifest)["splits"]["test"]["sha256"])
