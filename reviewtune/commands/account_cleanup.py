"""What of this project stands in the local provider's account and may go: models, jobs, and the files of both.

All projects of a user share the account, so a job counts as this project's when one of its runs names it, or a note in
.work/finetune/. A paid provider's account is left alone, and so are the notes of its jobs: they keep a job from being
paid twice.
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
from reviewtune.core.config import ProviderConfig
from reviewtune.core.project import project_root
from reviewtune.finetuning.follow import ENDED, ENDED_BADLY
from reviewtune.finetuning.jobs import NOTES, note_of
from reviewtune.providers.client import connect
from reviewtune.tracking.runs import RunRecord


@dataclass(frozen=True)
class Leftovers:
    """To be deleted in this order: a job goes after its models, a file after its jobs."""

    models: tuple[str, ...] = ()
    jobs: tuple[FineTuningJob, ...] = ()
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # below models/ and jobs/ of the account, what goes with them

    @property
    def notes(self) -> list[Path]:
        return sorted({path for job in self.jobs for path in _notes(job)})


def find(
    provider: ProviderConfig, runs: Sequence[RunRecord], *, kept: AbstractSet[str], others: AbstractSet[str]
) -> Leftovers:
    """What no kept run refers to. `kept` and `others`, those of other workspaces, are ids of runs."""
    if provider.kind != "local":
        return Leftovers()
    named = _tags((run for run in runs if run.id in kept), "job_id", "model")
    models = _made(runs) - _tags((run for run in runs if run.id in kept - _losers(runs, kept, others)), "model")
    jobs = _tags((run for run in runs if run.id not in others), "job_id") | _noted()
    if not models and not jobs - named:
        return Leftovers()  # no reason to start a server
    with connect(provider) as client:
        return _in_the_account(client, models, jobs - named, named)


def remove(provider: ProviderConfig, leftovers: Leftovers) -> None:
    """Interrupted, the next plan holds the rest."""
    if leftovers == Leftovers():
        return
    with connect(provider) as client:
        for model in leftovers.models:
            with suppress(openai.NotFoundError):  # somebody else was faster
                client.models.delete(model)
        for job in leftovers.jobs:
            with suppress(openai.NotFoundError):
                client.delete(f"/fine_tuning/jobs/{job.id}", cast_to=object)  # beyond what OpenAI offers
            for note in _notes(job):
                note.unlink(missing_ok=True)
        for file in leftovers.files:
            with suppress(openai.NotFoundError):
                client.files.delete(file)


def _losers(runs: Sequence[RunRecord], kept: AbstractSet[str], others: AbstractSet[str]) -> set[str]:
    """Jobs of sweeps that did not win: their runs may stay, their models need not. An open sweep has no losers yet."""
    sweeps = {run.id: run for run in runs if run.tags.get("kind") == "sweep"}
    winners = {sweep.tags.get("best_run") for sweep in sweeps.values() if sweep.id in kept}
    undecided = {sweep.id for sweep in sweeps.values() if sweep.status == "RUNNING"}
    jobs = [run for run in runs if run.tags.get("kind") == "job" and "keep" not in run.tags]
    return {job.id for job in jobs if job.tags.get("mlflow.parentRunId") not in undecided} - winners - others


def _made(runs: Sequence[RunRecord]) -> set[str]:
    here = [run for run in runs if run.tags.get("provider") == "local" and "job_id" in run.tags]
    return _tags(here, "model")


def _tags(runs: Iterable[RunRecord], *names: str) -> set[str]:
    return {run.tags[name] for run in runs for name in names if name in run.tags}


def _noted() -> set[str]:
    """Jobs in this project's notes, those without a run too: failed ones, and those of check-data."""
    return {str(read_json(note)["job_id"]) for note in (project_root() / NOTES).glob("*.json")}


def _in_the_account(
    client: openai.OpenAI, models: AbstractSet[str], candidates: AbstractSet[str], named: AbstractSet[str]
) -> Leftovers:
    there = {model.id for model in client.models.list()}
    everything = list(client.fine_tuning.jobs.list(limit=100))
    files = {file.id for file in client.files.list()}
    standing, gone = there - models, there & models
    orders = [order for order in _orders(everything, candidates) if _may_go(client, order, named, standing)]
    jobs = [job for order in orders for job in order]
    gone |= {name for job in jobs for name in _checkpoints(client, job)} & there
    spent = {job.id for job in everything if job in jobs or job.fine_tuned_model in gone}
    unused = _unused(everything, spent | {job.id for job in everything if _has_lost_its_model(job, there)})
    return Leftovers(tuple(sorted(gone)), tuple(jobs), tuple(sorted(files & unused)), tuple(sorted(spent)))


def _orders(jobs: Sequence[FineTuningJob], candidates: AbstractSet[str]) -> Iterator[list[FineTuningJob]]:
    """The jobs of each order that has candidates, all or none: their number is part of the next one's key."""
    orders: defaultdict[str, list[FineTuningJob]] = defaultdict(list)
    for job in jobs:
        orders[_order(job)].append(job)
    yield from (order for order in orders.values() if any(job.id in candidates for job in order))


def _order(job: FineTuningJob) -> str:
    """The key of the order that the job came from; of one made by hand its own name."""
    return (job.metadata or {}).get("run_key", job.id)


def _notes(job: FineTuningJob) -> list[Path]:
    """The note of the job's order, and its lock."""
    note = note_of(_order(job))
    return [path for path in (note, note.with_suffix(".lock")) if path.exists()]


def _may_go(
    client: openai.OpenAI, order: Sequence[FineTuningJob], named: AbstractSet[str], standing: AbstractSet[str]
) -> bool:
    """All have ended, no kept run names one of them or what it made, and no model of theirs stays."""
    made = {name for job in order for name in (job.id, job.fine_tuned_model, *_checkpoints(client, job))}
    left = {job.fine_tuned_model for job in order} & standing
    return all(job.status in ENDED for job in order) and not left and not made & named


def _checkpoints(client: openai.OpenAI, job: FineTuningJob) -> set[str]:
    """Of a job that ended badly they are all that it made; those of others go with the model."""
    if job.status not in ENDED_BADLY:
        return set()
    return {found.fine_tuned_model_checkpoint for found in client.fine_tuning.jobs.checkpoints.list(job.id)}


def _has_lost_its_model(job: FineTuningJob, there: AbstractSet[str]) -> bool:
    return job.status == "succeeded" and job.fine_tuned_model not in there


def _unused(jobs: Sequence[FineTuningJob], spent: AbstractSet[str]) -> set[str]:
    """Files that these jobs used or wrote, and none that still matters."""
    gone: set[str] = set()
    needed: set[str] = set()
    for job in jobs:
        files = {job.training_file, job.validation_file, *job.result_files}
        (gone if job.id in spent else needed).update(file for file in files if file)
    return gone - needed
