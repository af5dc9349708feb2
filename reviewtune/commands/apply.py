"""Bring a run of the past into the workspace: settings, outputs and all, so that `dvc repro` has nothing to train."""

import json
import subprocess
import sys

from reviewtune.core.config import TrackingConfig
from reviewtune.core.config_loading import compose_text
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, DataError
from reviewtune.tracking.queries import artifact_of
from reviewtune.tracking.runs import RunRecord


def apply(run: RunRecord, tracking: TrackingConfig) -> None:
    """A DVC experiment is applied; a sweep's job goes through the pipeline, which finds its fine-tune and answers.

    Raises:
        DataError: the run is neither.
        ConfigError: conf/ or the data set's file changed since, so that the overrides no longer mean this run.
    """
    command = [sys.executable, "-m", "dvc", "exp", *_words(run, tracking)]
    print(f"running `{' '.join(['dvc', *command[3:]])}`", flush=True)
    if subprocess.run(command, cwd=project_root()).returncode:
        raise DataError(f"run {run.id} could not be applied; DVC's message stands above, the workspace is as it says")


def _words(run: RunRecord, tracking: TrackingConfig) -> list[str]:
    if name := run.tags.get("DVC_EXP_NAME"):
        return ["apply", name]
    if "overrides" not in run.tags:
        hint = "choose a job of a sweep or a run of a DVC experiment; a run of `dvc repro` is in git: `git checkout`"
        raise DataError(f"run {run.id} ({run.tags.get('kind')}) has no overrides; {hint}")
    overrides = json.loads(run.tags["overrides"])
    then = artifact_of(tracking, run.id, "params.yaml").read_text(encoding="utf-8")
    if compose_text(overrides, project_root() / "conf") != then:
        hint = f"go to its revision first: git checkout {run.tags.get('git_revision', '(unknown)')} -- conf"
        raise ConfigError(f"conf/ changed since run {run.id}: [{' '.join(overrides)}] means other settings now; {hint}")
    return ["run", *(word for override in overrides for word in ("--set-param", override))]
