"""Ask a model that was promoted, or is to be, about this project's reviews, in the way in which it was evaluated.

Answers come from the answer cache if it has them, so nothing is paid for twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from reviewtune.core.config.arms import LinearArmConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation.arms import ask_injections
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.evaluate import ask_all, evaluate_baseline, evaluate_model
from reviewtune.evaluation.label_scoring.label_logprobs import label_prior, label_scores
from reviewtune.evaluation.linear_baseline import fit_predict
from reviewtune.evaluation.metrics.classification import per_label_table
from reviewtune.evaluation.metrics_file import InjectionMetrics
from reviewtune.evaluation.prompt_injections import injection_metrics, read_injections
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import BaselineSubject, ModelSubject

Kind = Literal["finetuned", "prompt", "linear"]  # what can be promoted


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A model and how it is asked.

    Args:
        arm: the arm's name in the configuration.
        kind: what kind of arm it is.
        model: the model's name.
        config: the configuration with which it was evaluated.
        pool: labelled reviews (columns text, label) that it is fitted on or that its examples come from; None: neither.
    """

    arm: str
    kind: Kind
    model: str
    config: Config
    pool: pd.DataFrame | None

    @property
    def subject(self) -> BaselineSubject | ModelSubject:
        """What the evaluation asks.

        Raises:
            ConfigError: the configuration has no such arm.
        """
        if self.kind == "finetuned":
            return ModelSubject.of_finetuned(self.model, self.config)
        self.config.refuse_unknown_arm(self.arm)
        settings = self.config.arms[self.arm]
        if isinstance(settings, LinearArmConfig):
            return BaselineSubject.of_arm(self.arm, settings)
        if not isinstance(settings, PromptArmConfig):
            raise ConfigError(f"arm {self.arm} always gives the most frequent label: there is nothing to promote")
        return ModelSubject.of_arm(self.arm, settings, self.config, self._examples)

    @property
    def _examples(self) -> pd.DataFrame:
        return pd.DataFrame(columns=["text", "label"]) if self.pool is None else self.pool

    def fitted_on(self) -> pd.DataFrame:
        """The reviews that a linear arm is fitted on.

        Raises:
            DataError: they are missing.
        """
        if self.pool is None:
            raise DataError(f"arm {self.arm} has no training reviews to be fitted on")
        return self.pool


def measure(
    asked: Asked,
    test: pd.DataFrame,
    *,
    test_sha256: str,
    valid: pd.DataFrame | None = None,
    progress: Progress = SILENT,
) -> Arm:
    """The model's scores on the test reviews.

    Args:
        asked: the model.
        test: columns review_id, text, label, and those of its configuration's `data.slices`.
        test_sha256: of the file that `test` was read from.
        valid: the validation reviews, which are asked too; None: only if the model's labels depend on them.
        progress: receives messages and a progress bar.

    Raises:
        ProviderError: the model cannot be asked.
    """
    subject, data = asked.subject, asked.config.data
    if isinstance(subject, BaselineSubject):
        result = evaluate_baseline(subject, asked.fitted_on(), test, data, test_sha256=test_sha256, valid=valid)
        return as_arm(result)
    if valid is not None and subject.asking.label_scores != "none":
        subject = replace(subject, has_threshold=True)
    return as_arm(evaluate_model(subject, test, data, test_sha256=test_sha256, valid=valid, progress=progress))


def hostile(asked: Asked, folder: Path, *, progress: Progress = SILENT) -> InjectionMetrics:
    """How the model handles the hostile reviews in `folder`.

    Raises:
        DataError: there are none.
        ProviderError: the model cannot be asked.
    """
    subject = asked.subject
    if isinstance(subject, ModelSubject):
        return ask_injections(subject, asked.config, folder, progress)
    attacks = read_injections(folder, list(asked.config.data.labels))
    labels = fit_predict(*_columns(asked.fitted_on()), attacks["text"].tolist(), seed=subject.seed).labels
    return injection_metrics(attacks, labels, labels)


def prior_of(asked: Asked, valid: pd.DataFrame, *, progress: Progress = SILENT) -> dict[str, float] | None:
    """By label, the log of the factor that corrects its prior, of the validation reviews; None for a baseline.

    Raises:
        ProviderError: the model cannot be asked.
    """
    subject = asked.subject
    if not isinstance(subject, ModelSubject):
        return None
    answers = ask_all(subject, valid["text"].tolist(), title="label prior", progress=progress).answers
    labels, prompt = list(asked.config.data.labels), subject.prompt
    readings = [prompt.readings(answer.text) for answer in answers]
    return label_prior(label_scores(labels, [answer.logprobs for answer in answers], readings))


def _columns(reviews: pd.DataFrame) -> tuple[Sequence[str], Sequence[str]]:
    return reviews["text"].tolist(), reviews["label"].tolist()


def as_arm(result: Evaluation) -> Arm:
    """The evaluation in the form in which arms are compared."""
    return Arm(
        metrics=result.metrics,
        run=result.run,
        predictions=result.predictions,
        per_label=per_label_table(result.scores),
        validation=result.validation,
    )
