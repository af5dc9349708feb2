"""Copy a stored run into the workspace, settings and outputs, so that `dvc repro` has nothing to train."""

import json
import subprocess
import sys

from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.core.config.loading import load_config, load_params
from reviewtune.core.config.promotion import PromotionConfig
from reviewtune.core.config.retraining import RetrainingConfig
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, DataError
from reviewtune.tracking.queries import artifact_of
from reviewtune.tracking.runs import RunRecord


def apply(run: RunRecord, tracking: TrackingConfig) -> None:
    """Apply a DVC experiment, or run the pipeline for a sweep's job; it finds the job's fine-tune and answers again.

    Raises:
        DataError: the run is neither an experiment nor a sweep's job, or DVC failed.
        ConfigError: conf/ changed since, so that the overrides no longer give the run's settings.
    """
    command = [sys.executable, "-m", "dvc", "exp", *_arguments(run, tracking)]
    print(f"running `{' '.join(['dvc', *command[3:]])}`", flush=True)
    if subprocess.run(command, cwd=project_root()).returncode:
        raise DataError(f"run {run.id} could not be applied; DVC's message is above and says what was changed")


def _arguments(run: RunRecord, tracking: TrackingConfig) -> list[str]:
    if name := run.tags.get("DVC_EXP_NAME"):
        return ["apply", name]
    if "overrides" not in run.tags:
        hint = "choose a job of a sweep or a run of a DVC experiment; for a run of `dvc repro` use `git checkout`"
        raise DataError(f"run {run.id} ({run.tags.get('kind')}) has no overrides; {hint}")
    overrides = json.loads(run.tags["overrides"])
    then = load_params(artifact_of(tracking, run.id, "params.yaml"))
    if _decisive(load_config(overrides)) != _decisive(then):
        hint = f"check out its configuration first: git checkout {run.tags.get('git_revision', '(unknown)')} -- conf"
        raise ConfigError(
            f"conf/ changed since run {run.id}: [{' '.join(overrides)}] gives different settings now; {hint}"
        )
    return ["run", *(argument for override in overrides for argument in ("--set-param", override))]


def _decisive(config: Config) -> Config:
    """The settings that a result depends on; runs of earlier releases lack the others."""
    undecisive = {"promotion": PromotionConfig(), "lifecycle": LifecycleConfig(), "retraining": RetrainingConfig()}
    return config.model_copy(update=undecisive)
