"""Hydra's side of `hydra/launcher=ray`; Hydra takes launchers from a package of this name only. Ray's: cluster.py.

Every Hydra program looks through this package, so nothing heavy is imported before a sweep chose this launcher.
"""

import os
import sys
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
    from reviewtune.sweep_job import Job

OUTPUT = "output.txt"
NICENESS_STEP, LOWEST_PRIORITY = 2, 19  # as of `nice`; two steps share a core by about 5 to 3


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
        from reviewtune import cluster
        from reviewtune.sweep_job import ENVIRONMENT
        from reviewtune.sweeping import composed

        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        shared = Shared(environment, Path.cwd(), Path(self.config.hydra.sweep.dir))
        print(f"what a job prints: {shared.sweep}/NUMBER/{OUTPUT}, on its node", flush=True)
        combinations = [tuple(words) for words in job_overrides]
        calls = {words: (composed(words), initial_job_idx + place) for place, words in enumerate(combinations)}
        answers = cluster.current().run_all(run_one, shared, calls, prepare=get_ready)
        return [_returned(calls[words][0], answers[words]) for words in combinations]


def get_ready(shared: Shared, place: int, job: "Job", _: int) -> None:
    """What the first job of a worker's process would wait for; and its place in the line for the cores."""
    from reviewtune import sweep_job

    os.chdir(shared.folder)
    sweep_job.get_ready(job)
    _yield_to_those_before(place)


def _yield_to_those_before(place: int) -> None:
    """Jobs that share the cores all end late; one after the other, all but the last end sooner, and while the provider
    trains for those the next can go on. So each place in the line has a lower priority; the way back is not allowed."""
    if sys.platform != "win32":
        wanted = min(place * NICENESS_STEP, LOWEST_PRIORITY)
        os.setpriority(os.PRIO_PROCESS, 0, max(wanted, os.getpriority(os.PRIO_PROCESS, 0)))


def run_one(shared: Shared, job: "Job", number: int) -> float:
    """One job in a worker's process."""
    from reviewtune.program import rare_collections
    from reviewtune.sweep_job import run_job

    os.chdir(shared.folder)
    os.environ.update(shared.environment)
    folder = shared.sweep / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a") as output, redirect_stdout(output), redirect_stderr(output), rare_collections():
        return run_job(job)


def _returned(job: "Job", answer: float | Exception) -> JobReturn:
    """What Hydra is told of a job; of one that ended without a word what `run_job` says of a failed one."""
    from reviewtune.errors import JobError
    from reviewtune.sweep_job import give_up

    told = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    told.return_value = give_up(job, answer) if isinstance(answer, JobError) else answer
    return told
