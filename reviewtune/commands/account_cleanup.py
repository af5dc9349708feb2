"""Find this project's models, jobs and files in the local account that no kept run needs, and delete them.

All projects of a user share the account. A job is this project's if one of its runs, or a note in .work/finetune/,
names it. What another project's notes or record name stays, too. A paid provider's account is not touched, and neither
are the notes of its jobs: they prevent paying for a job twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import openai
from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.finetuning import projects
from reviewtune.finetuning.follow import ENDED, ENDED_BADLY
from reviewtune.finetuning.job_notes import note_of, notes_in
from reviewtune.finetuning.jobs import order_key_of
from reviewtune.finetuning.model_record import read_record
from reviewtune.providers.client import connect
from reviewtune.tracking.kept_runs import is_report
from reviewtune.tracking.runs import RunRecord


@dataclass(frozen=True)
class Leftovers:
    """What to delete, in this order: a job after its models, a file after its jobs."""

    models: tuple[str, ...] = ()
    jobs: tuple[FineTuningJob, ...] = ()
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # below models/ and jobs/ of the account; deleted with them

    @property
    def names(self) -> tuple[str, ...]:
        """Everything, one line each."""
        jobs = [f"job {job.id}, {job.status}" for job in self.jobs]
        return (*(f"model {name}" for name in self.models), *jobs, *(f"file {name}" for name in self.files))

    @property
    def notes(self) -> list[Path]:
        return sorted({path for job in self.jobs for path in _notes(job)})


def find(
    provider: ProviderConfig,
    runs: Sequence[RunRecord],
    *,
    kept: AbstractSet[str],
    others: AbstractSet[str],
    used: AbstractSet[str] = frozenset(),
) -> Leftovers:
    """Find what no kept run refers to.

    Args:
        provider: whose account; nothing is found unless it is the local one.
        runs: all runs of the project.
        kept: ids of the runs that stay.
        others: ids of the runs of other workspaces.
        used: ids of jobs and names of models that applications use.
    """
    if provider.kind != "local":
        return Leftovers()
    needed = projects.needed_by_others(project_root()) | _in_record() | used
    needed |= _tags((run for run in runs if run.tags.get("job_id") in needed), "model")
    kept = kept - {run.id for run in runs if is_report(run)}
    named = _tags((run for run in runs if run.id in kept), "job_id", "model") | needed
    in_use = kept - _losers(runs, kept, others)
    models = _models_of_local_runs(runs) - _tags((run for run in runs if run.id in in_use), "model") - needed
    jobs = _tags((run for run in runs if run.id not in others), "job_id") | _jobs_in_notes()
    if not models and not jobs - named:
        return Leftovers()  # without starting a server
    with connect(provider) as client:
        return _in_the_account(client, models, jobs - named, named)


def remove(provider: ProviderConfig, leftovers: Leftovers) -> None:
    """Delete the leftovers; after an interruption the next `find` returns the rest."""
    if leftovers == Leftovers():
        return
    with connect(provider) as client:
        for model in leftovers.models:
            with suppress(openai.NotFoundError):  # deleted in the meantime
                client.models.delete(model)
        for job in leftovers.jobs:
            with suppress(openai.NotFoundError):
                client.delete(f"/fine_tuning/jobs/{job.id}", cast_to=object)  # not part of OpenAI's API
            for note in _notes(job):
                note.unlink(missing_ok=True)
        for file in leftovers.files:
            with suppress(openai.NotFoundError):
                client.files.delete(file)


def _losers(runs: Sequence[RunRecord], kept: AbstractSet[str], others: AbstractSet[str]) -> set[str]:
    """Ids of jobs that did not win their sweep: their runs may stay, their models need not.

    A sweep that runs, or was interrupted before it had a winner, has none: the same command continues it.
    """
    sweeps = {run.id: run for run in runs if run.tags.get("kind") == "sweep"}
    winners = {sweep.tags.get("best_run") for sweep in sweeps.values() if sweep.id in kept}
    undecided = {sweep.id for sweep in sweeps.values() if "best_run" not in sweep.tags or sweep.status == "RUNNING"}
    jobs = [run for run in runs if run.tags.get("kind") == "job" and "keep" not in run.tags]
    return {job.id for job in jobs if job.tags.get("mlflow.parentRunId") not in undecided} - winners - others


def _models_of_local_runs(runs: Sequence[RunRecord]) -> set[str]:
    return _tags((run for run in runs if run.tags.get("provider") == "local" and "job_id" in run.tags), "model")


def _tags(runs: Iterable[RunRecord], *names: str) -> set[str]:
    return {run.tags[name] for run in runs for name in names if name in run.tags}


def _jobs_in_notes() -> set[str]:
    """Jobs in this project's notes, including those without a run: failed jobs, and those of check-data."""
    return {str(read_json(note)["job_id"]) for note in notes_in(project_root())}


def _in_record() -> set[str]:
    """The project's last fine-tune, whose run may be in a different store."""
    path = ProjectPaths(project_root()).model_record
    if not path.exists():
        return set()
    record = read_record(path)
    return {record.job_id, *record.names}


def _in_the_account(
    client: openai.OpenAI, models: AbstractSet[str], candidates: AbstractSet[str], named: AbstractSet[str]
) -> Leftovers:
    """What the account holds of these models and candidate jobs.

    Args:
        client: of the local provider.
        models: names of models that no kept run needs.
        candidates: ids of jobs that no kept run names.
        named: ids of jobs and names of models that a kept run names.
    """
    all_models = {model.id for model in client.models.list()}
    all_jobs = list(client.fine_tuning.jobs.list(limit=100))
    all_files = {file.id for file in client.files.list()}
    orders = _orders(all_jobs, candidates)
    unneeded = [order for order in orders if _is_unneeded(client, order, named, all_models - models)]
    jobs = [job for order in unneeded for job in order]
    deleted = (models | {name for job in jobs for name in _checkpoints(client, job)}) & all_models
    folders = {job.id for job in all_jobs if job in jobs or job.fine_tuned_model in deleted}
    without_model = {job.id for job in all_jobs if job.status == "succeeded" and job.fine_tuned_model not in all_models}
    files = all_files & _unused_files(all_jobs, folders | without_model)
    return Leftovers(tuple(sorted(deleted)), tuple(jobs), tuple(sorted(files)), tuple(sorted(folders)))


def _orders(jobs: Sequence[FineTuningJob], candidates: AbstractSet[str]) -> Iterator[list[FineTuningJob]]:
    """The jobs of each order with candidates; all or none, as their number is in the next job's idempotency key."""
    orders: defaultdict[str, list[FineTuningJob]] = defaultdict(list)
    for job in jobs:
        orders[_order_key(job)].append(job)
    yield from (order for order in orders.values() if any(job.id in candidates for job in order))


def _order_key(job: FineTuningJob) -> str:
    """The key of the job's order, which the metadata call run_key; the id of a job that was created manually."""
    return order_key_of(job) or job.id


def _notes(job: FineTuningJob) -> list[Path]:
    """The note of the job's order, and its lock."""
    note = note_of(_order_key(job))
    return [path for path in (note, note.with_suffix(".lock")) if path.exists()]


def _is_unneeded(
    client: openai.OpenAI, order: Sequence[FineTuningJob], named: AbstractSet[str], kept_models: AbstractSet[str]
) -> bool:
    """Whether all jobs of the order have ended, no kept run names them or their models, and no model of them stays."""
    names = {name for job in order for name in (job.id, job.fine_tuned_model, *_checkpoints(client, job))}
    remaining = {job.fine_tuned_model for job in order} & kept_models
    return all(job.status in ENDED for job in order) and not remaining and not names & named


def _checkpoints(client: openai.OpenAI, job: FineTuningJob) -> set[str]:
    """The checkpoints of a job that failed; those of other jobs are deleted with the model."""
    if job.status not in ENDED_BADLY:
        return set()
    return {checkpoint.fine_tuned_model_checkpoint for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id)}


def _unused_files(jobs: Sequence[FineTuningJob], unneeded: AbstractSet[str]) -> set[str]:
    """Files that only the unneeded jobs (ids) used or wrote."""
    unused: set[str] = set()
    needed: set[str] = set()
    for job in jobs:
        files = {job.training_file, job.validation_file, *job.result_files}
        (unused if job.id in unneeded else needed).update(file for file in files if file)
    return unused - needed
