"""Hydra's side of `hydra/launcher=ray`; Hydra takes launchers from a package of this name only. Ray's: cluster.py.

Every Hydra program looks through this package, so nothing heavy is imported before a sweep chose this launcher.
"""

import gc
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
    """What every job of a sweep needs to run in another process, as it is in the first one."""

    environment: dict[str, str]  # how a job finds its sweep; no keys
    folder: Path  # of the project
    sweep: Path  # where the jobs' own folders are


class RayLauncher(Launcher):
    """Each job as a task of Ray: in a process of its own, on any node, again elsewhere when its node dies.

    A job goes there whole, as the sweep's check composed it: Hydra would compose each anew, 0.25 s of CPU time.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - Hydra's way to hand over conf/hydra/launcher/ray.yaml
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from reviewtune.sweeps import ray_cluster
        from reviewtune.sweeps.job import ENVIRONMENT
        from reviewtune.sweeps.sweep import composed

        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        shared = Shared(environment, Path.cwd(), Path(self.config.hydra.sweep.dir))
        print(f"what a job prints: {shared.sweep}/NUMBER/{OUTPUT}, on its node", flush=True)
        combinations = [tuple(words) for words in job_overrides]
        calls = {words: (composed(words), initial_job_idx + place) for place, words in enumerate(combinations)}
        answers = ray_cluster.current().run_all(run_one, shared, calls, prepare=get_ready)
        return [_returned(calls[words][0], answers[words]) for words in combinations]


def get_ready(shared: Shared, job: "Job", _: int) -> None:
    """What the first job of a worker's process would wait for."""
    from reviewtune.sweeps import run_job as warm

    os.chdir(shared.folder)
    warm.get_ready(job)
    gc.freeze()  # what is there stays: to look for garbage in it takes 0.2 s, and that between two jobs


def run_one(shared: Shared, job: "Job", number: int) -> float:
    """One job in a worker's process."""
    from reviewtune.core.entry_point import rare_collections
    from reviewtune.sweeps.run_job import run_job

    os.chdir(shared.folder)
    os.environ.update(shared.environment)
    folder = shared.sweep / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a") as output, redirect_stdout(output), redirect_stderr(output), rare_collections():
        return run_job(job)


def _returned(job: "Job", answer: float | Exception) -> JobReturn:
    """What Hydra is told of a job; of one that ended without a word what `run_job` says of a failed one."""
    from reviewtune.errors import JobError
    from reviewtune.sweeps.run_job import give_up

    told = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    told.return_value = give_up(job, answer) if isinstance(answer, JobError) else answer
    return told
