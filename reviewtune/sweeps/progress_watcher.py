"""Progress of a sweep whose jobs print elsewhere, on a cluster or in a queue; read from MLflow."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.terminal.progress import Progress, Step
from reviewtune.errors import TrackingError
from reviewtune.sweeps.job import Sweep, ended

LOOK_EVERY_SECONDS = 2.0


@contextmanager
def watched(tracking: TrackingConfig, sweep: Sweep, *, progress: Progress) -> Iterator[None]:
    """Report in the background how many jobs have ended, the time left, and each failure."""
    watch, over = _Watch(tracking, sweep, progress), Event()
    with progress.bar("sweep", sweep.jobs) as step:
        thread = Thread(target=watch.until, args=(over, step), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Watch:
    def __init__(self, tracking: TrackingConfig, sweep: Sweep, progress: Progress) -> None:
        self._tracking, self._sweep, self._progress = tracking, sweep, progress
        self._shown: set[str] = set()  # ids of the runs that were reported

    def until(self, over: Event, step: Step) -> None:
        while not over.wait(LOOK_EVERY_SECONDS):
            with suppress(TrackingError):  # the store may be busy for a moment; the jobs report a lasting fault
                self._look(step)
        with suppress(TrackingError):
            self._look(step)

    def _look(self, step: Step) -> None:
        runs = ended(self._tracking, self._sweep)
        new = [run for run in runs if run.id not in self._shown]
        self._shown |= {run.id for run in new}
        for run in new:
            if run.status == "FAILED":
                failure = f"job {run.tags.get('combination')} failed: {run.tags.get('error')}"
                self._progress.message(f"{failure}; the other jobs continue")
        left = self._sweep.seconds_left(runs)
        step(len(new), left=math.inf if left is None else left)
