"""Hydra's side of `hydra/launcher=ray`; Hydra takes launchers from a package of this name only. Ray's: cluster.py.

Every Hydra program looks through this package, so nothing heavy is imported before a sweep chose this launcher.
"""

import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

OUTPUT = "output.txt"


@dataclass(frozen=True)
class Shared:
    """What every job of a sweep needs to run in another process, as it is in the first one."""

    context: HydraContext
    config: DictConfig
    task: TaskFunction
    singletons: dict[Any, Any]
    environment: dict[str, str]  # how a job finds its sweep; no keys
    folder: Path


class RayLauncher(Launcher):
    """Each job as a task of Ray: in a process of its own, on any node, again elsewhere when its node dies."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - Hydra's way to hand over conf/hydra/launcher/ray.yaml
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from reviewtune import cluster
        from reviewtune.sweep_job import ENVIRONMENT

        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        shared = Shared(self.context, self.config, self.task, Singleton.get_state(), environment, Path.cwd())
        print(f"what a job prints: {self.config.hydra.sweep.dir}/NUMBER/{OUTPUT}, on its node", flush=True)
        calls = {tuple(words): initial_job_idx + place for place, words in enumerate(job_overrides)}  # equal ones: one
        answers = cluster.current().run_all(run_one, shared, calls)
        return [_returned(tuple(words), answers[tuple(words)]) for words in job_overrides]


def run_one(shared: Shared, overrides: Sequence[str], number: int) -> JobReturn:
    """One job in a worker's process, as Hydra's own launchers run it in theirs."""
    os.chdir(shared.folder)
    os.environ.update(shared.environment)
    setup_globals()
    Singleton.set_state(shared.singletons)
    config = shared.context.config_loader.load_sweep_config(shared.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.sweep.dir) / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a") as output, redirect_stdout(output), redirect_stderr(output):
        return run_job(
            hydra_context=shared.context,
            task_function=shared.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _returned(overrides: tuple[str, ...], answer: JobReturn | Exception) -> JobReturn:
    """What Hydra is told of a job; of one that ended without a word what `run_job` says of a failed one."""
    from reviewtune.errors import JobError
    from reviewtune.sweep_job import give_up
    from reviewtune.sweeping import composed

    if not isinstance(answer, JobError):
        assert isinstance(answer, JobReturn)
        return answer
    told = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    told.return_value = give_up(composed(overrides), answer)
    return told
