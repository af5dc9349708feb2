"""Hydra's side of `hydra/launcher=ray`; Hydra loads launchers only from the package hydra_plugins.

Every Hydra program imports this module, so it imports nothing heavy before a sweep uses this launcher. Ray's side is
reviewtune/sweeps/ray_jobs.py.
"""

import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from reviewtune.sweeps.job import Job

OUTPUT = "output.txt"


@dataclass(frozen=True)
class Shared:
    """What every job needs to run in another process as it would in the first one."""

    environment: dict[str, str]  # how a job finds its sweep; no keys
    folder: Path  # of the project
    sweep: Path  # with one folder per job


class RayLauncher(Launcher):
    """Run each job as a task of Ray: in a separate process, on any node, again elsewhere if its node dies.

    Jobs are sent as the sweep's check composed them, so that every node runs the settings that were checked.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - how Hydra passes conf/hydra/launcher/ray.yaml
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from reviewtune.core.terminal.progress import TerminalProgress
        from reviewtune.sweeps import ray_jobs
        from reviewtune.sweeps.job import ENVIRONMENT, composed

        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        shared = Shared(environment, Path.cwd(), Path(self.config.hydra.sweep.dir))
        TerminalProgress().message(f"the output of a job: {shared.sweep}/NUMBER/{OUTPUT}, on its node")
        combinations = [tuple(overrides) for overrides in job_overrides]
        calls = {overrides: (composed(overrides), initial_job_idx + at) for at, overrides in enumerate(combinations)}
        results = ray_jobs.current().run_all(run_one, shared, calls)
        return [_job_return(calls[overrides][0], results[overrides]) for overrides in combinations]


def run_one(shared: Shared, job: "Job", number: int) -> float:
    """Run one job in a worker's process."""
    from reviewtune.core.terminal.progress import TerminalProgress
    from reviewtune.sweeps.run_job import run_job

    os.chdir(shared.folder)
    os.environ.update(shared.environment)
    folder = shared.sweep / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a", encoding="utf-8") as output, redirect_stdout(output), redirect_stderr(output):
        return run_job(job, progress=TerminalProgress())


def _job_return(job: "Job", result: float | Exception) -> JobReturn:
    """What Hydra expects of a job. One whose process died is stored as failed first, as `run_job` does with others."""
    from reviewtune.core.terminal.progress import TerminalProgress
    from reviewtune.errors import JobError
    from reviewtune.sweeps.run_job import give_up

    job_return = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    if isinstance(result, JobError):
        result = give_up(job, result, progress=TerminalProgress())
    job_return.return_value = result
    return job_return
