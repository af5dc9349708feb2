"""A sweep: check all combinations before job 0, hold the jobs together in one parent run, rank them at the end.

The same command again continues where the last one stopped, in the same runs; finished jobs are not done again. One
job is in run_job.py, the end of a sweep in conclusion.py.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.formatting import counted
from reviewtune.core.project import project_root
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import ConfigError, ReviewtuneError
from reviewtune.providers.client import connect
from reviewtune.sweeps import ranking_report
from reviewtune.sweeps.conclusion import Ending, conclude
from reviewtune.sweeps.job import Job, Sweep, children_of, composed, label_of, short_names
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.sweeps.scoring import is_done
from reviewtune.tracking.runs import RunKey, open_run


def check_all(combinations: Sequence[Sequence[str]], *, progress: Progress = SILENT) -> list[Job]:
    """Compose every combination, split its data and write its chat files: all that can be checked without paying.

    Warnings about the chat files are reported, each of them once.

    Raises:
        ConfigError: naming each faulty combination and its fault; nothing has run by then.
    """
    jobs, faults = [], []
    warnings: dict[str, str] = {}
    for combination in combinations:
        name = f"[{' '.join(combination)}]"
        try:
            job = composed(combination)
            warnings = {**dict.fromkeys(prepare_job(job), name), **warnings}
            jobs.append(job)
        except ReviewtuneError as error:
            faults.append(f"{name} {error}")
    if faults:
        number = f"{len(faults)} of {counted(len(combinations), 'combination')} are faulty"
        raise ConfigError(f"{number}, no job was run: {' | '.join(faults)}")
    for warning, name in warnings.items():
        progress.message(f"warning: {name} {warning}")
    return jobs


@contextmanager
def parent_run(
    title: str,
    varied: Sequence[str],
    jobs: Sequence[Job],
    planned: int,
    space: str = "",
    *,
    watched: bool = False,
    test_all: bool = False,
    progress: Progress = SILENT,
) -> Iterator[None]:
    """The run that holds a sweep together. At its end: the ranked table, pictures, names and numbers for the UI.

    The same arguments again continue the same run.

    Args:
        title: the run's name.
        varied: the keys that differ between jobs.
        jobs: the jobs that are known beforehand; for a search one job, for its settings.
        planned: how many jobs there will be.
        space: the space of a search; empty for a grid.
        watched: another part reports how many jobs are done, so the jobs need not.
        test_all: at the end, ask all jobs' models about the test split, not only the winner's.
        progress: where to report.

    Raises:
        JobError: at the end, if jobs failed; the others are done and kept.
    """
    config = jobs[0].config
    named = [space, *varied, str(planned), *sorted({job.key for job in jobs})]
    key = hashlib.sha256("\n".join(named).encode()).hexdigest()
    run_key = RunKey(f"sweep:{key}", continues="any", own_folder=True)
    tags: dict[str, object] = {"varied": " ".join(varied), "jobs": planned, "data": _data_of(jobs)}
    with open_run(config.tracking, name=title, kind="sweep", tags=tags, run_key=run_key) as run:
        done = len([child for child in children_of(config.tracking, run.id) if is_done(child)])
        Sweep(run.id, tuple(varied), planned, time.time(), done, watched).announce()
        if done:
            progress.message(f"{done} of {planned} jobs were done before and are not done again")
        if done < planned and not watched:  # jobs on other machines use the keys of those machines
            _refuse_incomplete([job.config.provider for job in jobs])
        yield
        folder = project_root() / ranking_report.reports_of(run_key.text)
        names, known = short_names(varied), {} if space else {job.key: label_of(job.variant(varied)) for job in jobs}
        conclude(Ending(run, config.tracking, config.evaluation, names, folder, known, test_all, progress))


def _data_of(jobs: Sequence[Job]) -> str:
    return " ".join(dict.fromkeys(job.config.data.name for job in jobs))


def _refuse_incomplete(providers: Sequence[ProviderConfig]) -> None:
    """Refuse a missing key or endpoint once, before every job does. Building a client sends no request."""
    for provider in dict.fromkeys(providers):
        if provider.kind != "local":  # whose client would start a server
            with connect(provider):
                pass
