"""The model to be left: the champion, the last fine-tune, or a named one; and its answers, which outlive its provider.

The old model is asked first, because it may end while the new one is trained. If it has ended already, its answers come
from the answer cache, from the files of the last `dvc repro`, or from its promotion.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reviewtune.analyzer.served_model import read_served_model
from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import listed
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.leakage import refuse_leak
from reviewtune.deployment.measuring import Asked, measure
from reviewtune.deployment.opponent import ADVICE
from reviewtune.deployment.rebase.parity_file import Seen
from reviewtune.deployment.served_folder import read_pool, read_predictions
from reviewtune.errors import ConfigError, DataError, ProviderError
from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.metrics.classification import per_label_table, score
from reviewtune.evaluation.metrics_file import METRICS_FILE, ArmMetrics
from reviewtune.evaluation.run_file import ArmRun
from reviewtune.tracking.queries import artifact_of, find_runs
from reviewtune.tracking.registry import RegisteredVersion, by_alias, download


@dataclass(frozen=True, kw_only=True)
class OldModel:
    """The model to be left.

    Args:
        asked: the model and how it is asked.
        title: who it is, such as "the champion (version 3, finetuned)".
        training_sha256: hash of its training file; empty: not known.
        test_sha256: of the test split that it was accepted on; empty: not known.
        promoted: its labels of those test reviews: columns review_id, label, predicted; None: not known.
    """

    asked: Asked
    title: str
    training_sha256: str = ""
    test_sha256: str = ""
    promoted: pd.DataFrame | None = None


@dataclass(frozen=True)
class Measured:
    """The old model on the current test reviews.

    Args:
        arm: its scores; None: nothing is known of its answers.
        seen: where they come from.
        why_not: why it was not asked; empty: it was.
    """

    arm: Arm | None
    seen: Seen = "asked"
    why_not: str = ""


def find_old(teacher: str | None, config: Config, root: Path) -> OldModel:
    """Find the model to be left.

    Args:
        teacher: its name; None: the champion, else the fine-tune of the last `dvc repro`.
        config: the project's configuration.
        root: the project's folder.

    Raises:
        ConfigError: the last fine-tune does not fit the configuration, or there is no such arm.
        DataError: there is neither a champion nor a fine-tune.
        TrackingError: the registry does not answer.
    """
    champion = by_alias(config.tracking, config.registered_name)
    if champion is not None and teacher in (None, champion.tags.get("model")):
        return _champion(champion, config)
    return _named(teacher, config) if teacher else _last(config, ProjectPaths(root))


def measure_old(
    old: OldModel,
    test: pd.DataFrame,
    *,
    test_sha256: str,
    valid: pd.DataFrame,
    root: Path,
    progress: Progress = SILENT,
) -> Measured:
    """Its scores on the test reviews, from wherever its answers can still be had.

    Args:
        old: the model.
        test: columns review_id, text, label, and those of its configuration's `data.slices`.
        test_sha256: of the file that `test` was read from.
        valid: the validation reviews.
        root: the project's folder.
        progress: receives messages and a progress bar.

    Raises:
        DataError: it does not know a label of the test reviews.
        LeakError: it answers with training reviews that are test reviews now.
        BudgetError: its answers could cost more than the budget leaves.
    """
    _refuse_other_labels(old.asked, test)
    _refuse_known(old.asked, test)
    try:
        return Measured(
            measure(_with_slices_of(test, old.asked), test, test_sha256=test_sha256, valid=valid, progress=progress)
        )
    except ProviderError as error:
        return _from_files(old, test_sha256, ProjectPaths(root), str(error))


def _with_slices_of(test: pd.DataFrame, asked: Asked) -> Asked:
    """Without slices that the test reviews do not have: `data.slices` may have changed since the model's promotion."""
    data = asked.config.data
    kept = data.model_copy(update={"slices": tuple(name for name in data.slices if name in test)})
    return replace(asked, config=asked.config.model_copy(update={"data": kept}))


def _champion(champion: RegisteredVersion, config: Config) -> OldModel:
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as scratch:
        folder = download(config.tracking, champion, Path(scratch))
        served = read_served_model(folder)
        own = served.config.with_limits(config.evaluation)
        asked = Asked(arm=served.arm, kind=served.kind, model=served.model, config=own, pool=read_pool(folder))
        return OldModel(
            asked=asked,
            title=f"the champion (version {champion.version}, {served.arm})",
            training_sha256=served.provenance.training_sha256,
            test_sha256=served.provenance.test_sha256,
            promoted=read_predictions(folder),
        )


def _last(config: Config, paths: ProjectPaths) -> OldModel:
    from reviewtune.finetuning.model_record import read_record, refuse_other_configuration

    if not paths.model_record.exists():
        raise DataError(
            f"{config.registered_name} has no champion, and there is no {paths.model_record.name}: nothing to leave; "
            "name the old model with --teacher MODEL, or `dvc exp run -S provider=NAME` trains a first one"
        )
    record = read_record(paths.model_record)
    refuse_other_configuration(record, config)
    return OldModel(
        asked=_finetuned(record.model, config),
        title="the fine-tune of the last `dvc repro`",
        training_sha256=record.training_sha256,
        test_sha256=record.test_sha256,
    )


def _named(model: str, config: Config) -> OldModel:
    """A fine-tune by its name: asked as its own run was, or, if no run knows it, as params.yaml says."""
    runs = [run for run in find_runs(config.tracking) if run.tags.get("model") == model]
    trained = next((run for run in runs if run.tags.get("kind") in ("finetune", "job")), None)
    own = load_params(artifact_of(config.tracking, trained.id, "params.yaml")) if trained else config
    if list(own.data.labels) != list(config.data.labels):
        raise ConfigError(
            f"--teacher {model}: its labels are {listed(list(own.data.labels), shown=5)}, those of params.yaml are "
            f"{listed(list(config.data.labels), shown=5)}; use the data set that it was trained for"
        )
    return OldModel(
        asked=_finetuned(model, own.with_limits(config.evaluation)),
        title="the old model",
        training_sha256=trained.tags.get("training_sha256", "") if trained else "",
        test_sha256=trained.tags.get("test_sha256", "") if trained else "",
    )


def _finetuned(model: str, config: Config) -> Asked:
    return Asked(arm=FINETUNED, kind="finetuned", model=model, config=config, pool=None)


def _refuse_other_labels(asked: Asked, test: pd.DataFrame) -> None:
    if unknown := sorted(set(test["label"]) - set(asked.config.data.labels)):
        raise DataError(
            f"{asked.model} was trained without the labels {listed(unknown, shown=5)}, which the test reviews have: "
            "the two models cannot be compared"
        )


def _refuse_known(asked: Asked, test: pd.DataFrame) -> None:
    if asked.pool is not None:
        known = {"its training reviews": asked.pool["text"].tolist()}
        refuse_leak(test, known, similarity=asked.config.split.similarity, advice=ADVICE)


def _from_files(old: OldModel, test_sha256: str, paths: ProjectPaths, why: str) -> Measured:
    """What is known of its answers without its provider."""
    folder = paths.arm(old.asked.arm)
    if (folder / METRICS_FILE).exists():
        arm = load_arm(folder)
        if arm.metrics.model == old.asked.model and arm.metrics.test_sha256 == test_sha256:
            return Measured(arm, "evaluation", why)
    if old.promoted is not None and old.test_sha256 == test_sha256:
        return Measured(_labels_only(old, old.promoted), "promotion", why)
    return Measured(None, "asked", why)


def _labels_only(old: OldModel, predictions: pd.DataFrame) -> Arm:
    """An arm of which only the labels are known."""
    labels = list(old.asked.config.data.labels)
    scores = score(predictions["label"].tolist(), predictions["predicted"].tolist(), labels=labels)
    metrics = ArmMetrics.of_scores(
        scores, arm=old.asked.arm, kind=old.asked.kind, model=old.asked.model, test_sha256=old.test_sha256
    )
    return Arm(metrics=metrics, run=ArmRun(), predictions=predictions, per_label=per_label_table(scores))
