"""A fine-tuning job from start to model, at any provider: never created twice, followed, its curve fetched.

A job's key is a hash of its files, base model, settings and provider. It stands in the job's metadata and on disk, so
that a command that was killed at any moment finds its job again instead of paying for a second one.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import openai
import pandas as pd
from filelock import FileLock
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config import Config, ProviderConfig, TrainingConfig
from reviewtune.core.progress import SILENT, Progress
from reviewtune.core.project import ChatFiles, project_root
from reviewtune.data.reviews import sha256
from reviewtune.errors import JobError
from reviewtune.finetuning.cost import allow_training
from reviewtune.finetuning.follow import ENDED_BADLY, checkpoints, curve, epoch_ends, follow, say_advice

NOTES = Path(".work/finetune")  # which job an order became
HAVE_MODEL_LIST = ("local", "openai")  # elsewhere "no such model" may only mean "no such route": no reason to pay twice


@dataclass(frozen=True)
class Order:
    """What is to be trained."""

    training_file: Path
    validation_file: Path | None
    provider: ProviderConfig
    training: TrainingConfig
    allow: Callable[[Progress], object] = lambda _: None  # called before a job is created; raises if it costs too much

    @classmethod
    def of(cls, config: Config, files: ChatFiles) -> Self:
        """The order that this configuration places for these chat files, whichever command or stage asks."""
        paid = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
        allow = partial(allow_training, files.training, *paid)
        return cls(files.training, files.validation, config.provider, config.training, allow)

    @property
    def key(self) -> str:
        """64 hex digits: equal orders, equal keys."""
        files = [self.training_file, self.validation_file]
        named = {
            "files": [sha256(file) for file in files if file],
            "provider": [self.provider.kind, self.provider.base_url, self.provider.base_model],
            "training": self.training.model_dump(mode="json"),
        }
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Finetuned:
    """A job that succeeded."""

    job: FineTuningJob
    model: str
    curve: pd.DataFrame  # CURVE_COLUMNS, one row a step, NaN where a step has no value
    epoch_ends: pd.DataFrame  # step, full_valid_loss
    checkpoints: list[dict[str, Any]]  # step, model, valid_loss; in order of step


def finetune(
    client: openai.OpenAI,
    order: Order,
    *,
    placed: FineTuningJob | None = None,
    title: str = "fine-tuning",
    jobs: float = 1,
    progress: Progress = SILENT,
) -> Finetuned:
    """Find the job of this order or create it, follow it to its end (`title` and `jobs` as there), fetch what it left.

    `placed` is the order's job where the caller has placed it already.

    Raises:
        JobError: the job failed, was cancelled, or ended without a model.
        openai.APIError: the provider refused or could not be reached.
    """
    job = placed or place(client, order, progress=progress)[0]
    with telling_of(job):
        following = follow(client, job, title=title, jobs=jobs)
    job = following.job
    if job.status != "succeeded" or not job.fine_tuned_model:
        reason = f": {job.error.message} ({job.error.code})" if job.error and job.error.message else ""
        raise JobError(f"fine-tuning job {job.id} ended as {job.status}{reason}; mend that, run the same command again")
    kept = checkpoints(client, job)
    say_advice(following.advice(kept))
    return Finetuned(job, job.fine_tuned_model, curve(client, job), epoch_ends(following, kept), kept)


def place(client: openai.OpenAI, order: Order, *, progress: Progress = SILENT) -> tuple[FineTuningJob, bool]:
    """The job of this order, and whether it was created just now; one that failed or was cancelled is made anew.

    Commands that ask at the same time on one machine take turns, so that they end with one job.
    """
    note = note_of(order.key)
    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(note.with_suffix(".lock")):
        known = list(_candidates(client, order.key))
        found = next((job for job in known if _usable(client, job, order.provider)), None)
        job = found or create(client, order, len(known), progress=progress)
        write_json({"job_id": job.id}, note)
    return job, found is None


def create(client: openai.OpenAI, order: Order, attempt: int = 0, *, progress: Progress = SILENT) -> FineTuningJob:
    """Upload what is not there yet and create the job; `attempt` counts the ones that failed or were cancelled."""
    order.allow(progress)
    training, once = order.training, client.with_options(max_retries=0)  # a repeated create could be paid twice
    there = {(found.filename, found.bytes): found for found in client.files.list(purpose="fine-tune")}
    validation = _upload(client, order.validation_file, there).id if order.validation_file else None
    return once.fine_tuning.jobs.create(
        model=order.provider.base_model,
        training_file=_upload(client, order.training_file, there).id,
        validation_file=validation,
        suffix=training.suffix,
        seed=training.seed,
        metadata={"run_key": order.key},
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": training.n_epochs,
                    "batch_size": training.batch_size,
                    "learning_rate_multiplier": training.learning_rate_multiplier,
                }
            },
        },
        extra_headers={"Idempotency-Key": f"{order.key}-{attempt}"},
    )


@contextmanager
def telling_of(job: FineTuningJob) -> Iterator[None]:
    """Who presses Ctrl-C must know that the job, and what it costs, goes on."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"job {job.id} goes on without this command; `reviewtune jobs cancel {job.id}` ends it", flush=True)
        raise


def _usable(client: openai.OpenAI, job: FineTuningJob, provider: ProviderConfig) -> bool:
    """Not one that failed, nor one whose model was deleted since, as `reviewtune clean` does."""
    if job.status != "succeeded" or not job.fine_tuned_model or provider.kind not in HAVE_MODEL_LIST:
        return job.status not in ENDED_BADLY
    try:
        client.models.retrieve(job.fine_tuned_model)
    except openai.NotFoundError:
        return False
    return True


def _candidates(client: openai.OpenAI, key: str) -> Iterator[FineTuningJob]:
    """Jobs with this key, whatever became of them, each once."""
    remembered = _remembered(client, key)
    if remembered:
        yield remembered
    for job in client.fine_tuning.jobs.list(metadata={"run_key": key}):
        # A provider may not know the filter.
        if (job.metadata or {}).get("run_key") == key and not (remembered and job.id == remembered.id):
            yield job


def _remembered(client: openai.OpenAI, key: str) -> FineTuningJob | None:
    """The job in this key's note on disk: for a provider that keeps no metadata."""
    note = note_of(key)
    if not note.exists():
        return None
    try:
        return client.fine_tuning.jobs.retrieve(json.loads(note.read_text())["job_id"])
    except openai.NotFoundError:
        note.unlink()  # another account, or one that was cleared
        return None


def _upload(client: openai.OpenAI, path: Path, there: Mapping[tuple[str, int], FileObject]) -> FileObject:
    """The file at the provider, found there by its size and by a name that holds its hash, or uploaded."""
    name = f"{path.stem}-{sha256(path)[:16]}{path.suffix}"
    if found := there.get((name, path.stat().st_size)):
        return found
    with path.open("rb") as stream:  # streamed: a file may be larger than what is free of memory
        uploaded = client.files.create(file=(name, stream), purpose="fine-tune")
    return client.files.wait_for_processing(uploaded.id, poll_interval=1)


def note_of(key: str) -> Path:
    """The note on disk of the job of this order."""
    return project_root() / NOTES / f"{key}.json"
