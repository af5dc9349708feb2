"""Hydra callbacks of a sweep. The only file that knows Hydra's internals: how it expands `a=1,2` into jobs.

Hydra alone would run job 0 before it sees that job 1 is faulty; with a paid provider that is money.
"""

import atexit
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from reviewtune.errors import ConfigError, ReviewtuneError, one_line_errors
from reviewtune.sweeps import ray_cluster
from reviewtune.sweeps.job import Sweep
from reviewtune.sweeps.progress_watcher import watched
from reviewtune.sweeps.sweep import check_all, parent_run

ELSEWHERE = (ray_cluster.PLUGIN, "hydra_plugins.hydra_submitit_launcher.")  # launchers whose jobs do not print here
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do."""

    title: str
    varied: list[str]  # keys, such as training.n_epochs
    combinations: list[list[str]]  # the overrides of each job; of a search only what all its jobs share
    jobs: int
    space: str  # of a search, in which the sweeper chooses the combinations one after the other


class GuardSweep(Callback):
    """Before job 0: check all combinations and open the parent run. At the end: rank, print, close it."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        """Hydra's launchers send a copy to their worker processes: the parent run stays with the first."""
        return {}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's signature
        # Hydra turns an exception in a callback into a warning and goes on; leaving the program it does not.
        with one_line_errors():
            try:
                plan = plan_of(config)
                jobs = check_all(plan.combinations)
                planned = plan.jobs if plan.space else len({job.key for job in jobs})
                what = f"a search of {planned} trials" if plan.space else f"{len(jobs)} combinations, {planned} jobs"
                print(f"checked: {what}", flush=True)
                launcher = dict(config.hydra.launcher)
                target = launcher.pop("_target_")
                if target == ray_cluster.PLUGIN:
                    print(ray_cluster.start(launcher, [job.config for job in jobs]), flush=True)
                elsewhere = target.startswith(ELSEWHERE)
                parent = parent_run(plan.title, plan.varied, jobs, planned, plan.space, watched=elsewhere)
                self._open.enter_context(parent)
                sweep = Sweep.current()
                if sweep and elsewhere:
                    self._open.enter_context(watched(jobs[0].config.tracking, sweep))
                atexit.register(self._interrupted)
            except ReviewtuneError:
                raise
            except Exception as error:
                raise ConfigError(f"the sweep could not be checked, no job was run: {error!r}") from error

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401
        atexit.unregister(self._interrupted)
        with one_line_errors():
            self._open.close()

    def _interrupted(self) -> None:
        """Ctrl-C, or anything else that ends the program before its time: the parent run is KILLED, not open."""
        with suppress(KeyboardInterrupt):
            self._open.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def plan_of(config: DictConfig) -> Plan:
    """Read the plan from Hydra's configuration: the sweeper's own `params`, then the command line."""
    sweeper, words = config.hydra.sweeper, list(config.hydra.overrides.task)
    own = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    search = sweeper._target_ != GRID
    overrides = OverridesParser.create().parse_overrides(words if search else [*own, *words])
    varied = [override.get_key_element().lstrip("+~") for override in overrides if override.is_sweep_override()]
    varied += list(sweeper.params or {}) if search else []
    jobs = combinations([one for one in overrides if not (search and one.is_sweep_override())])
    title = "sweep " + " ".join([*own, *words])
    space = f"search {' '.join(own)}" if search else ""
    return Plan(title, list(dict.fromkeys(varied)), jobs, int(sweeper.n_trials) if search else len(jobs), space)


def combinations(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job, in the order in which Hydra runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (batch,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [list(job) for job in batch]
