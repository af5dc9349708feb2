"""Open what can classify reviews: the folder of a served model, an arm of the configuration, or a model by its name."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.analyzer.answer_reader import AnswerReader, Verdicts
from reviewtune.analyzer.classifier import Classifier, Prepared, Weights, missing
from reviewtune.analyzer.linear_classifier import LinearClassifier
from reviewtune.analyzer.model_classifier import ModelClassifier
from reviewtune.analyzer.served_model import ADAPTER, SERVED_MODEL, TRAINING_REVIEWS, ServedModel, read_served_model
from reviewtune.core.config.arms import EvaluationConfig, LinearArmConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Prompt
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation import linear_baseline
from reviewtune.evaluation.subject import ModelSubject, zero_shot_arm
from reviewtune.providers.call_policy import CallPolicy

if TYPE_CHECKING:
    import pandas as pd

Reviews = Callable[[], "pd.DataFrame"]
"""Reads the training reviews, with the columns text and label."""


def open_classifier(
    folder: Path,
    *,
    version: str | None = None,
    limits: EvaluationConfig | None = None,
    seconds: float | None = None,
    progress: Progress = SILENT,
) -> Classifier:
    """Open a served model. Its provider is asked at the first review, or by `open` of the classifier.

    Args:
        folder: with served_model.json.
        version: of the model in the registry, for the classifications.
        limits: with the budget and the rates of the project; None: those of its evaluation.
        seconds: how long an answer of a language model may take; None: provider.timeout.
        progress: receives messages.

    Raises:
        DataError: the folder is not complete, or damaged.
        ConfigError: the model needs a package that is not installed, or there is a budget without prices.
        ProviderError: the folder holds the model's weights, and the local provider cannot take them.
    """
    served = read_served_model(folder)
    config = served.config.with_limits(limits)
    verdicts = Verdicts.of_served(served, version)
    if served.kind == "finetuned":
        weights = _weights(folder / ADAPTER, served)
        _add_weights(weights)
        subject = ModelSubject.of_finetuned(served.model, config)
        return _of_subject(
            subject,
            verdicts,
            config,
            prior=served.label_prior,
            weights=weights,
            seconds=seconds,
            progress=progress,
        )
    return _of_arm(
        served.arm,
        config,
        lambda: _training_reviews(folder, served),
        verdicts=verdicts,
        prior=served.label_prior,
        seconds=seconds,
        progress=progress,
    )


def open_arm(
    name: str, config: Config, reviews: Reviews, *, seconds: float | None = None, progress: Progress = SILENT
) -> Classifier:
    """Open a baseline of the configuration; its confidences are not calibrated, so it is never sure.

    Args:
        name: of the arm.
        config: the configuration.
        reviews: reads the training reviews, if the arm needs them.
        seconds: how long an answer may take; None: provider.timeout.
        progress: receives messages.

    Raises:
        ConfigError: no arm has this name, or it needs a package that is not installed.
        DataError: it needs the training reviews, and there are none.
    """
    config.refuse_unknown_arm(name)
    return _of_arm(name, config, reviews, verdicts=None, prior=None, seconds=seconds, progress=progress)


def open_finetuned(
    model: str, config: Config, *, seconds: float | None = None, progress: Progress = SILENT
) -> Classifier:
    """Open a fine-tuned model that was not promoted: it gives labels without confidence."""
    subject = ModelSubject.of_finetuned(model, config)
    return _of_subject(subject, Verdicts(model=model), config, seconds=seconds, progress=progress)


def open_base(
    model: str | None, config: Config, *, seconds: float | None = None, progress: Progress = SILENT
) -> Classifier:
    """Open the base model, asked as the fine-tuned one is, but with the zero-shot arm's prompt, which lists the labels.

    Raises:
        ConfigError: no arm is a zero-shot one.
    """
    _, arm = zero_shot_arm(config)
    name = model or config.provider.base_model
    subject = replace(
        ModelSubject.of_finetuned(name, config),
        kind="prompt",
        prompt=Prompt(arm.prompt, config.data.labels),
        policy=CallPolicy.of(config.provider, config.evaluation, config.prices, "base"),
    )
    return _of_subject(subject, Verdicts(model=name), config, seconds=seconds, progress=progress)


def _of_arm(
    name: str,
    config: Config,
    reviews: Reviews,
    *,
    verdicts: Verdicts | None,
    prior: dict[str, float] | None,
    seconds: float | None,
    progress: Progress,
) -> Classifier:
    arm = config.arms[name]
    try:
        if isinstance(arm, PromptArmConfig):
            subject = ModelSubject.of_arm(name, arm, config, reviews() if arm.shots else None)
            chosen = verdicts or Verdicts(model=subject.model)
            subject = replace(subject, model=chosen.model)
            return _of_subject(subject, chosen, config, prior=prior, seconds=seconds, progress=progress)
        if not isinstance(arm, LinearArmConfig):
            raise ConfigError(f"arm {name}: the most frequent label classifies nothing; choose another arm")
        table = reviews()
        texts, answers, labels = table["text"].tolist(), table["label"].tolist(), tuple(config.data.labels)
        chosen = verdicts or Verdicts(model=linear_baseline.MODELS["linear"])
        linear = LinearClassifier(texts, answers, labels=labels, seed=arm.seed, verdicts=chosen)
        return Prepared(linear, config.data)
    except ModuleNotFoundError as error:
        raise missing(f"arm {name} answers with the training reviews", error.name, "project") from error


def _of_subject(
    subject: ModelSubject,
    verdicts: Verdicts,
    config: Config,
    *,
    prior: dict[str, float] | None = None,
    weights: Weights | None = None,
    seconds: float | None,
    progress: Progress,
) -> Classifier:
    """Log-probabilities are requested only if something is made of them."""
    if subject.policy.tokens_per_minute and find_spec("bpe_openai") is None:
        raise missing("evaluation.tokens_per_minute is set, so tokens are counted", "bpe-openai", "project")
    wanted = subject.asking.label_scores if verdicts.calibration or prior else "none"
    asking = subject.asking.model_copy(update={"label_scores": wanted, "repeats": 0})
    reader = AnswerReader(prompt=subject.prompt, verdicts=verdicts, prior=prior)
    subject = replace(subject, asking=asking)
    model = ModelClassifier(subject, reader, seconds=seconds, progress=progress, weights=weights)
    return Prepared(model, config.data)


def _weights(adapter: Path, served: ServedModel) -> Weights | None:
    """The weights of `promote --with-weights`; None: there are none, or the provider is another one."""
    provider = served.config.provider
    if provider.kind == "local" and provider.base_url is None and adapter.is_dir():
        return Weights(served.model, provider.base_model, adapter)
    return None


def _add_weights(weights: Weights | None) -> None:
    """Let the local provider of this machine answer with these weights."""
    if weights is not None:
        from reviewtune.providers.local.import_model import add_to_account  # the light client has no local provider

        add_to_account(*weights)


def _training_reviews(folder: Path, served: ServedModel) -> "pd.DataFrame":
    path = folder / TRAINING_REVIEWS
    if not path.exists():
        raise DataError(
            f"{folder / SERVED_MODEL}: arm {served.arm} answers with the training reviews, but {path.name} is missing; "
            "copy the whole folder again with `reviewtune champion --out FOLDER`"
        )
    from reviewtune.data.reviews import read_reviews

    return read_reviews(path)
