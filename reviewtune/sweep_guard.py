"""Hydra callbacks of a sweep. The only file that knows Hydra's internals: how it expands `a=1,2` into jobs.

Hydra alone would run job 0 before it sees that job 1 is faulty; with a paid provider that is money.
"""

from contextlib import ExitStack
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from reviewtune.errors import ConfigError, ReviewtuneError, one_line_errors
from reviewtune.sweeping import check_all, parent_run

GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # a search has no list of jobs to check


class GuardSweep(Callback):
    """Before job 0: check all combinations and open the parent run. At the end: close it and print the table."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's signature
        overrides = list(config.hydra.overrides.task)
        # Hydra turns an exception in a callback into a warning and goes on; leaving the program it does not.
        with one_line_errors():
            try:
                if config.hydra.sweeper._target_ == GRID:
                    check_all(combinations(overrides))
                self._open.enter_context(parent_run(overrides))
            except ReviewtuneError:
                raise
            except Exception as error:
                raise ConfigError(f"the sweep could not be checked, no job was run: {error!r}") from error

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401
        with one_line_errors():
            self._open.close()


def combinations(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job, in the order in which Hydra runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for job in batch]
