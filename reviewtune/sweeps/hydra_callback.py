"""Hydra callbacks of a sweep. The only file that knows Hydra's internals: how it expands `a=1,2` into jobs.

Hydra alone would run job 0 before it finds a fault in job 1; with a paid provider that costs money.
"""

import atexit
import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.errors import ConfigError, ReviewtuneError, one_line_errors
from reviewtune.sweeps import ray_jobs
from reviewtune.sweeps.job import Job, Sweep, refuse_varied, refuse_without_effect
from reviewtune.sweeps.progress_watcher import watched
from reviewtune.sweeps.sweep import check_all, parent_run

ELSEWHERE = (ray_jobs.PLUGIN, "hydra_plugins.hydra_submitit_launcher.")  # launchers whose jobs do not print here
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
CHOICE = ("sampler", "direction", "custom_search_space")  # settings of a search that decide what it tries next


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do."""

    title: str
    varied: list[str]  # keys, such as training.n_epochs
    combinations: list[list[str]]  # the overrides of each job; for a search only what all its jobs share
    jobs: int
    space: str  # the space of a search, in which the sweeper chooses one combination after the other


class GuardSweep(Callback):
    """Check all combinations and open the parent run before job 0; rank the jobs and close the run at the end."""

    def __init__(self, *, test_all: bool = False) -> None:
        """`test_all`: at the end, ask all jobs' models about the test split, not only the winner's."""
        self._test_all = test_all
        self._open = ExitStack()
        self._progress = TerminalProgress()

    def __getstate__(self) -> dict[str, Any]:
        """Hydra's launchers send a copy to their worker processes; the parent run stays in the first process."""
        return {}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's signature
        # Hydra turns an exception in a callback into a warning and continues. Leaving the program stops it.
        with one_line_errors():
            try:
                self._start(config)
            except ReviewtuneError:
                raise
            except Exception as error:
                raise ConfigError(f"the sweep could not be checked, no job was run: {error!r}") from error

    def _start(self, config: DictConfig) -> None:
        plan = plan_of(config)
        refuse_without_effect(plan.varied)
        refuse_varied(plan.varied)
        jobs = check_all(plan.combinations, progress=self._progress)
        number = plan.jobs if plan.space else len({job.key for job in jobs})
        summary = (
            f"a search of {counted(number, 'trial')}"
            if plan.space
            else f"{counted(len(jobs), 'combination')}, {counted(number, 'job')}"
        )
        self._progress.message(f"checked: {summary}")
        elsewhere = self._start_launcher(dict(config.hydra.launcher), jobs)
        options = {"watched": elsewhere, "test_all": self._test_all}
        self._open.enter_context(
            parent_run(plan.title, plan.varied, jobs, number, plan.space, **options, progress=self._progress)
        )
        sweep = Sweep.current()
        if sweep and elsewhere:
            self._open.enter_context(watched(jobs[0].config.tracking, sweep, progress=self._progress))
        atexit.register(self._interrupted)

    def _start_launcher(self, launcher: dict[str, Any], jobs: list[Job]) -> bool:
        """Whether the launcher's jobs run where their output is not seen; connects to Ray if it is the launcher."""
        target = launcher.pop("_target_")
        if target == ray_jobs.PLUGIN:
            self._progress.message(ray_jobs.start(launcher, [job.config for job in jobs]))
        return bool(target.startswith(ELSEWHERE))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401
        atexit.unregister(self._interrupted)
        with one_line_errors():
            self._open.close()

    def _interrupted(self) -> None:
        """After Ctrl-C, or anything else that ends the program early, the parent run is KILLED instead of open."""
        with suppress(KeyboardInterrupt):
            self._open.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def plan_of(config: DictConfig) -> Plan:
    """Read the plan from Hydra's configuration: the sweeper's own `params`, then the command line."""
    sweeper, words = config.hydra.sweeper, list(config.hydra.overrides.task)
    own = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    search = sweeper._target_ != GRID
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # `glob(*)` asks it for the files of conf/
    overrides = parser.parse_overrides(words if search else [*own, *words])
    swept = {override.get_key_element(): override for override in overrides if override.is_sweep_override()}
    varied = [key.lstrip("+~") for key in swept]
    varied += list(sweeper.params or {}) if search else []
    jobs = combinations([override for override in overrides if not (search and override.is_sweep_override())])
    title = "sweep " + " ".join([*own, *words])
    space = _space_of(sweeper, {key: override.get_value_string() for key, override in swept.items()}) if search else ""
    return Plan(title, list(dict.fromkeys(varied)), jobs, int(sweeper.n_trials) if search else len(jobs), space)


def _space_of(sweeper: DictConfig, swept: Mapping[str, str]) -> str:
    """What makes a search another one: what it may try, and how it chooses; the command line replaces its `params`."""
    settings: Any = OmegaConf.to_container(sweeper, resolve=True)
    params = {**(settings.get("params") or {}), **swept}
    return "search " + json.dumps([params, *map(settings.get, CHOICE)], sort_keys=True, default=str)


def combinations(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job, in the order in which Hydra runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (batch,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [list(job) for job in batch]
