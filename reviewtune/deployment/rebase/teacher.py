"""Keep what the old model knows: its answers to reviews without a label, as training data for the new one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.splits import Splits
from reviewtune.deployment.rebase.answers_file import LABEL, AnswersFile, answers_file
from reviewtune.deployment.rebase.asking import Asked, ask_old
from reviewtune.deployment.rebase.old_model import Measured, OldModel
from reviewtune.deployment.rebase.parity_file import KeptAnswers
from reviewtune.deployment.rebase.unlabelled import Unlabelled, read_unlabelled
from reviewtune.deployment.rebase.weights import Weighed, weigh
from reviewtune.errors import ConfigError
from reviewtune.evaluation.metrics.significance import Interval, proportion
from reviewtune.evaluation.subject import ModelSubject


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Whom to ask about what.

    Args:
        model: the old model's name.
        reviews: the file with reviews, whose labels are not known.
        text_column: its column with the reviews; None: the one that conf/data names, or one with a usual name.
        budget_usd: cap on the cost of the answers; None: evaluation.budget_usd.
    """

    model: str
    reviews: Path
    text_column: str | None = None
    budget_usd: float | None = None


@dataclass(frozen=True)
class Taught:
    """What the new model learns from the old one.

    Args:
        rows: columns text, label, in addition to the labelled reviews.
        kept: what the report says of it.
    """

    rows: pd.DataFrame
    kept: KeptAnswers


def read_reviews_of(options: TeacherOptions, config: Config, splits: Splits, paths: ProjectPaths) -> Unlabelled:
    """The reviews to ask about; raises as `read_unlabelled`."""
    return read_unlabelled(options.reviews, config, splits, paths, text_column=options.text_column)


def with_budget(old: OldModel, budget_usd: float | None) -> OldModel:
    """The old model, asked under this budget; None: that of params.yaml."""
    if budget_usd is None:
        return old
    asked = old.asked
    evaluation = asked.config.evaluation.model_copy(update={"budget_usd": budget_usd})
    return replace(old, asked=replace(asked, config=asked.config.model_copy(update={"evaluation": evaluation})))


def ask_teacher(
    old: OldModel,
    measured: Measured,
    options: TeacherOptions,
    unlabelled: Unlabelled,
    splits: Splits,
    root: Path,
    *,
    progress: Progress = SILENT,
) -> tuple[Asked, AnswersFile]:
    """Ask the old model, and keep its answers; the arguments and errors are those of `learn_from`."""
    subject = _subject(old, progress, may_answer=not measured.why_not)
    file = answers_file(subject, options.reviews, root)
    before = [*splits.valid["text"], *splits.test["text"]]
    budget = subject.policy.budget_usd  # that of the option, which `with_budget` has put there, or of params.yaml
    asked = ask_old(subject, unlabelled, splits.valid, file, before=before, budget_usd=budget, progress=progress)
    return asked, file


def learn_from(
    old: OldModel,
    measured: Measured,
    options: TeacherOptions,
    unlabelled: Unlabelled,
    splits: Splits,
    root: Path,
    *,
    progress: Progress = SILENT,
) -> Taught:
    """Ask the old model, and choose the answers to train on.

    Args:
        old: the old model.
        measured: its answers to test and validation reviews, which it gave first.
        options: whom to ask about what.
        unlabelled: the reviews.
        splits: the labelled reviews.
        root: the project's folder.
        progress: receives messages and a progress bar.

    Raises:
        ConfigError: the old model is a baseline, or there is a budget but no price.
        ProviderError: as `ask_old`.
    """
    asked, file = ask_teacher(old, measured, options, unlabelled, splits, root, progress=progress)
    validation = measured.arm.validation if measured.arm else None
    weighed = weigh(asked.rows, validation)
    kept = describe_kept(options, unlabelled, asked, weighed, file.path.relative_to(root), _accuracy(validation))
    return Taught(weighed.rows, kept)


def _subject(old: OldModel, progress: Progress, *, may_answer: bool) -> ModelSubject:
    """How the old model is asked: as it was evaluated, but in batches where there are any and the mode is left open."""
    subject = old.asked.subject
    if not isinstance(subject, ModelSubject):
        raise ConfigError(
            f"--teacher {old.asked.model}: arm {old.asked.arm} is no language model; leave the option out"
        )
    is_open = may_answer and old.asked.config.evaluation.mode == "auto" and subject.provider.kind != "local"
    policy = replace(subject.policy, mode="batch") if is_open and _has_batches(subject, progress) else subject.policy
    return replace(subject, has_threshold=True, policy=policy)


def _has_batches(subject: ModelSubject, progress: Progress) -> bool:
    from reviewtune.providers.batch.api import has_batches
    from reviewtune.providers.client import connect

    with connect(subject.provider, progress=progress) as client:
        return has_batches(client)


def describe_kept(
    options: TeacherOptions,
    unlabelled: Unlabelled,
    asked: Asked,
    weighed: Weighed,
    file: Path,
    accuracy: Interval | None,
) -> KeptAnswers:
    """What the report says of the answers.

    Args:
        options: whom was asked about what.
        unlabelled: the reviews.
        asked: the answers.
        weighed: those that the new model is trained on.
        file: where all are kept, relative to the project.
        accuracy: of the old model on the validation reviews; None: not known.
    """
    labels: Sequence[str] = asked.rows[LABEL].tolist()
    answered = sum(label != "" for label in labels)
    return KeptAnswers(
        teacher=options.model,
        file=file.as_posix(),
        reviews=options.reviews.name,
        reviews_sha256=unlabelled.sha256,
        left_out=unlabelled.left_out,
        asked=len(unlabelled.reviews),
        answered=answered,
        unusable=len(labels) - answered,
        not_asked=asked.not_asked,
        ended=asked.ended,
        spent_usd=round(asked.spent_usd, 6),
        validation_accuracy=accuracy,
        weighting=weighed.weighting,
        too_unsure=weighed.too_unsure,
        drawn_out=weighed.drawn_out,
        trained_on=len(weighed.rows),
    )


def _accuracy(validation: pd.DataFrame | None) -> Interval | None:
    if validation is None or not len(validation):
        return None
    return proportion(int((validation["predicted"] == validation["label"]).sum()), len(validation)).rounded()
