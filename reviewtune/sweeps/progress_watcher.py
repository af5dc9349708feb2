"""Progress of a sweep whose jobs run where their words are not seen: on a cluster, or in a queue. Read from MLflow."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from reviewtune.core.config import TrackingConfig
from reviewtune.core.progress import Step, progress_bar
from reviewtune.errors import TrackingError
from reviewtune.sweeps.job import Sweep, ended

LOOK_EVERY_SECONDS = 2.0


@contextmanager
def watched(tracking: TrackingConfig, sweep: Sweep) -> Iterator[None]:
    """Meanwhile a bar, or a line now and then: jobs that ended, the time left; and each failure as it comes."""
    watch, over = _Watch(tracking, sweep), Event()
    with progress_bar("sweep", sweep.jobs) as step:
        thread = Thread(target=watch.until, args=(over, step), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Watch:
    def __init__(self, tracking: TrackingConfig, sweep: Sweep) -> None:
        self._tracking, self._sweep = tracking, sweep
        self._shown: set[str] = set()  # ids of runs that ended

    def until(self, over: Event, step: Step) -> None:
        while not over.wait(LOOK_EVERY_SECONDS):
            with suppress(TrackingError):  # a store that is busy for a moment; the jobs say so if it is for good
                self._look(step)
        with suppress(TrackingError):
            self._look(step)

    def _look(self, step: Step) -> None:
        runs = ended(self._tracking, self._sweep)
        news = [run for run in runs if run.id not in self._shown]
        self._shown |= {run.id for run in news}
        for run in news:
            if run.status == "FAILED":
                said = f"job {run.tags.get('combination')} failed: {run.tags.get('error')}"
                print(f"{said}; the other jobs go on", flush=True)
        step(len(news), left=self._sweep.seconds_left(len(runs)))
