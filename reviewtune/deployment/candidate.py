"""The candidate of `reviewtune promote`: an arm of the last `dvc repro`, or the model of a stored run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.arms import CHECKPOINT, FINETUNED, LinearArmConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import read_reviews
from reviewtune.deployment.measuring import Asked, Kind, measure
from reviewtune.errors import ConfigError, DataError, TrackingError
from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.metrics_file import METRICS_FILE
from reviewtune.evaluation.run_file import RUN_FILE, read_run
from reviewtune.tracking.process import git_revision
from reviewtune.tracking.queries import artifact_of, find_run, find_runs, run_or_none
from reviewtune.tracking.run_file import read_run_id
from reviewtune.tracking.runs import RunRecord

NO_TRAINING = ("linear", "prompt")  # kinds that no job trained


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is to be promoted.

    Args:
        asked: the model and how it is asked.
        measured: its evaluation on the current test split.
        run: the MLflow run of its evaluation; None: it is not in this store.
        training: the tags of the run that trained it, and what the project's record says; empty for other arms.
        train, valid, test: the splits.
        manifest: data/splits/manifest.json.
    """

    asked: Asked
    measured: Arm
    run: RunRecord | None
    training: Mapping[str, str]
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    manifest: Mapping[str, Any]
    root: Path

    @property
    def run_id(self) -> str | None:
        return self.run.id if self.run else self.measured.run.mlflow_run_id

    @property
    def test_sha256(self) -> str:
        return str(self.manifest["splits"]["test"]["sha256"])

    @property
    def training_sha256(self) -> str:
        """Hash of the training file, or of the training split if no job was needed; empty: not known."""
        if self.asked.kind in NO_TRAINING:
            return str(self.manifest["splits"]["train"]["sha256"])
        return self.training.get("training_sha256", "")

    @property
    def data_sha256(self) -> str:
        return (self.run.tags.get("data_sha256") if self.run else None) or str(self.manifest["data_sha256"])

    @property
    def git_revision(self) -> str | None:
        return self.run.tags.get("git_revision") if self.run else git_revision(self.root)


def find_candidate(
    config: Config, root: Path, *, run_id: str | None, arm: str | None, progress: Progress = SILENT
) -> Candidate:
    """Find what is to be promoted, and its evaluation on the current test split.

    Args:
        config: the project's configuration.
        root: the project's folder.
        run_id: an evaluation in MLflow, or the first digits of its id; None: the last `dvc repro`.
        arm: the arm of the last `dvc repro`; None: the fine-tuned model.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the arm cannot be promoted.
        DataError: the arm was not evaluated, or not on the current test split.
        TrackingError: no such run.
        ProviderError: the model of the run cannot be asked.
    """
    run = find_run(config.tracking, run_id) if run_id else None
    name = _arm_of(run) if run else arm or FINETUNED
    refuse_unpromotable(name, arm, config, run)
    paths = ProjectPaths(root)
    folder, splits = paths.arm(name), paths.splits
    is_last = run is None or ((folder / RUN_FILE).exists() and read_run_id(folder / RUN_FILE) == run.id)
    if is_last:
        _refuse_missing(folder, name)
        last = read_run(folder).mlflow_run_id
        run = run or (run_or_none(config.tracking, last) if last else None)
    own = _config_of(run, config)
    train, valid, test = (read_reviews(splits.part(part)) for part in ("train", "valid", "test"))
    manifest = read_json(splits.manifest)
    model = load_arm(folder).metrics.model if is_last else str(run.tags.get("model", "")) if run else ""
    asked = Asked(arm=name, kind=_kind(name, own), model=model, config=own, pool=_pool(name, own, train))
    digest = str(manifest["splits"]["test"]["sha256"])
    _refuse_other_test(run, digest)
    if asked.pool is not None:
        _refuse_other_training(run, str(manifest["splits"]["train"]["sha256"]))
    measured = load_arm(folder) if is_last else measure(asked, test, test_sha256=digest, valid=valid, progress=progress)
    if measured.metrics.test_sha256 != digest:
        raise DataError(f"{folder}: scored on another test split than data/splits has now; run `dvc repro`")
    return Candidate(
        asked=asked,
        measured=measured,
        run=run,
        training=_training(asked, config, paths),
        train=train,
        valid=valid,
        test=test,
        manifest=manifest,
        root=root,
    )


def refuse_unpromotable(name: str, arm: str | None, config: Config, run: RunRecord | None) -> None:
    """Refuse an arm that applications could not use.

    Raises:
        ConfigError: with what can be promoted instead.
    """
    if run is not None and arm is not None and arm != name:
        raise ConfigError(f"run {run.id[:12]} is one of arm {name}, not of {arm}; leave out --arm")
    if name.startswith(CHECKPOINT):
        raise ConfigError(
            f"{name} is measured for information: choosing an epoch by the test reviews would be a leak; train that "
            "many epochs with training.n_epochs and promote the result"
        )
    if name == FINETUNED or run is not None:
        return
    config.refuse_unknown_arm(name)
    if config.arms[name].kind == "majority":
        raise ConfigError(f"arm {name} always gives the most frequent label: there is nothing to promote")


def _arm_of(run: RunRecord) -> str:
    kind = run.tags.get("kind")
    if kind not in ("evaluation", "job") or "accuracy" not in run.metrics:
        known = "the evaluations of `reviewtune ui` and the winner of a sweep have one"
        raise TrackingError(f"run {run.id[:12]} ({kind}) has no accuracy on the test reviews; {known}")
    return run.tags.get("arm", FINETUNED)


def _refuse_missing(folder: Path, name: str) -> None:
    if not (folder / METRICS_FILE).exists():
        raise DataError(f"{folder} has no evaluation of arm {name}: `dvc repro` writes it; or name a run by its id")


def _refuse_other_test(run: RunRecord | None, digest: str) -> None:
    """A model of another split may have been trained on reviews that are test reviews now."""
    then = run.tags.get("test_sha256") if run else None
    if run and then and then != digest:
        raise DataError(
            f"run {run.id[:12]} was scored on test split {then[:12]}, data/splits has {digest[:12]}: its model may "
            "know reviews of this one; `dvc repro` trains and scores on the current one"
        )


def _refuse_other_training(run: RunRecord | None, digest: str) -> None:
    """An arm that answers with training reviews is another model with those of now."""
    then = run.tags.get("train_sha256") if run else None
    if run and then and then != digest:
        raise DataError(
            f"run {run.id[:12]} answered with training split {then[:12]}, data/splits has {digest[:12]}: with these "
            "reviews it is another model; `dvc repro` scores that one, then promote it"
        )


def _config_of(run: RunRecord | None, config: Config) -> Config:
    """The configuration with which the run was made, within the limits of now; the project's own without a run."""
    if run is None:
        return config
    return load_params(artifact_of(config.tracking, run.id, "params.yaml")).with_limits(config.evaluation)


def _kind(name: str, config: Config) -> Kind:
    if name == FINETUNED:
        return "finetuned"
    config.refuse_unknown_arm(name)
    return "linear" if isinstance(config.arms[name], LinearArmConfig) else "prompt"


def _pool(name: str, config: Config, train: pd.DataFrame) -> pd.DataFrame | None:
    """The training reviews, for arms that answer with them."""
    settings = config.arms.get(name)
    needs = isinstance(settings, LinearArmConfig) or (isinstance(settings, PromptArmConfig) and settings.shots > 0)
    return train[["text", "label"]] if needs else None


def _training(asked: Asked, config: Config, paths: ProjectPaths) -> dict[str, str]:
    """Job, run and hash of the training file: from the runs of this model, or from models/ if they are not here."""
    if asked.kind in NO_TRAINING:
        return {}
    runs = [run for run in find_runs(config.tracking) if run.tags.get("model") == asked.model]
    trained = next((run for run in runs if run.tags.get("kind") in ("finetune", "job")), None)
    tags = {name: run.tags[name] for run in runs for name in ("job_id", "training_sha256") if name in run.tags}
    return {**_record(asked.model, paths), **tags, **({"run_id": trained.id} if trained else {})}


def _record(model: str, paths: ProjectPaths) -> dict[str, str]:
    if not paths.model_record.exists():
        return {}
    from reviewtune.finetuning.model_record import read_record

    record = read_record(paths.model_record)
    return {"job_id": record.job_id, "training_sha256": record.training_sha256} if record.model == model else {}
