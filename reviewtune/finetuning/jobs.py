"""Run a fine-tuning job at any provider: find or create it, follow it to its end, fetch its curve and checkpoints.

A job's order key is a hash of its files, base model, settings and provider. It is stored in the job's metadata and on
disk, so that a command that was killed at any moment finds its job again instead of paying for a second one.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, Self

import openai
import pandas as pd
from filelock import FileLock
from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.config.config import Config
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.config.training import TrainingConfig
from reviewtune.core.project import ChatFiles, project_root
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import sha256
from reviewtune.errors import JobError
from reviewtune.finetuning import projects
from reviewtune.finetuning.checkpoints import Checkpoint, kept_checkpoints
from reviewtune.finetuning.cost import release_training, reserve_training
from reviewtune.finetuning.follow import epoch_ends, follow, has_ended, model_of, report_advice, step_losses
from reviewtune.finetuning.job_notes import (
    forget_request,
    not_found,
    note_of,
    note_request,
    noted_job,
    unconfirmed_jobs,
    write_note,
)
from reviewtune.finetuning.last_training_day import refuse_ended
from reviewtune.finetuning.uploads import upload
from reviewtune.providers.address import address_in_environment, address_of
from reviewtune.providers.pricing import Range
from reviewtune.providers.retry_policy import is_refused

ORDER_KEY = "run_key"  # in a job's metadata; the name is older than `order_key` and must stay, or no job is found again


NO_FACTS = LifecycleConfig()


class Reserve(Protocol):
    """Reports what a job may cost and reserves it; raises BudgetError or ConfigError if it must not be created."""

    def __call__(self, *, progress: Progress) -> Range | None: ...


def reserve_nothing(*, progress: Progress) -> None:
    """For a job without a budget."""


def release_nothing(reserved: Range | None) -> None:
    """For a job without a budget."""


@dataclass(frozen=True)
class Order:
    """What is to be trained.

    Args:
        training_file: chat JSONL to learn from.
        validation_file: chat JSONL to measure the loss on, if any.
        provider: who trains.
        training: the job's settings.
        reserve: called before a job is created; raises if the job costs too much.
        release: called with what was reserved if no job was created.
        lifecycle: facts on when the training ends; a job that comes too late is not created.
    """

    training_file: Path
    validation_file: Path | None
    provider: ProviderConfig
    training: TrainingConfig
    reserve: Reserve = reserve_nothing
    release: Callable[[Range | None], None] = release_nothing
    lifecycle: LifecycleConfig = NO_FACTS

    @classmethod
    def of(cls, config: Config, files: ChatFiles) -> Self:
        """The order that this configuration places for these chat files, whichever command or stage asks."""
        return cls.for_files(config, training=files.training, validation=files.validation)

    @classmethod
    def for_files(cls, config: Config, *, training: Path, validation: Path | None) -> Self:
        """The order that this configuration places for a training file and, optionally, a validation file."""
        return cls(
            training_file=training,
            validation_file=validation,
            provider=config.provider,
            training=config.training,
            lifecycle=config.lifecycle,
            reserve=partial(
                reserve_training,
                file=training,
                provider=config.provider,
                training=config.training,
                prices=config.prices,
                budget_usd=config.evaluation.budget_usd,
            ),
            release=partial(release_training, budget_usd=config.evaluation.budget_usd),
        )

    @property
    def key(self) -> str:
        """The order key, 64 hex digits; equal orders have equal keys."""
        return self._key(self.provider.base_url or address_in_environment(self.provider))

    @property
    def earlier_keys(self) -> tuple[str, ...]:
        """Keys that earlier releases gave to this order: they left out an address in the environment."""
        return tuple({self._key(self.provider.base_url)} - {self.key})

    @cached_property
    def hashes(self) -> list[str]:
        """Of the files as they are when the order is first looked up, not hours later when its job has ended."""
        return [sha256(file) for file in self.files]

    def _key(self, address: str | None) -> str:
        identity = {
            "files": self.hashes,
            "provider": [self.provider.kind, address, self.provider.base_model],
            "training": self.training.model_dump(mode="json"),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for file in (self.training_file, self.validation_file) if file)


@dataclass(frozen=True)
class Finetuned:
    """A job that succeeded.

    Args:
        job: the job at its end.
        model: name under which the provider serves the model.
        curve: step, train_loss and whatever else was reported, one row per step, NaN where a step has no value.
        epoch_ends: columns step and full_valid_loss, one row per epoch.
        checkpoints: the models that the provider kept, in order of step.
    """

    job: FineTuningJob
    model: str
    curve: pd.DataFrame
    epoch_ends: pd.DataFrame
    checkpoints: tuple[Checkpoint, ...]


def finetune(
    client: openai.OpenAI,
    order: Order,
    *,
    title: str = "fine-tuning",
    jobs: float = 1,
    progress: Progress = SILENT,
) -> Finetuned:
    """Find the job of this order or create it, follow it to its end, and fetch its results.

    Args:
        client: a client of the order's provider.
        order: what is to be trained.
        title: as in `follow`.
        jobs: as in `follow`.
        progress: receives the cost, the steps and the advice.

    Raises:
        JobError: the job failed, was cancelled, ended without a model, or the provider does not find it.
        BudgetError: the job could cost more than is left of the budget; it was not created.
        openai.APIError: the provider refused or could not be reached.
    """
    job, _ = place(client, order, progress=progress)
    try:
        with note_on_interrupt(job, progress=progress):
            monitor = follow(client, job, title=title, jobs=jobs, progress=progress)
    except openai.NotFoundError as error:
        raise not_found(client, job.id, order.key, error) from error
    job = monitor.job
    if not (model := model_of(job)):
        reason = f": {job.error.message} ({job.error.code})" if job.error and job.error.message else ""
        reason = reason or (": the provider names no model" if job.status == "succeeded" else "")
        ended = f"fine-tuning job {job.id} ended as {job.status or 'unknown'}{reason}"
        raise JobError(f"{ended}; fix that, run the same command again")
    checkpoints = kept_checkpoints(client, job)
    models = [model, *(checkpoint.model for checkpoint in checkpoints)]
    write_note(job, order.key, models=models)
    report_advice(monitor.advice(checkpoints), progress)
    return Finetuned(
        job=job,
        model=model,
        curve=step_losses(client, monitor),
        epoch_ends=epoch_ends(monitor, checkpoints),
        checkpoints=checkpoints,
    )


def place(client: openai.OpenAI, order: Order, *, progress: Progress = SILENT) -> tuple[FineTuningJob, bool]:
    """The job of this order, and whether it was created just now. One that failed or was cancelled is created again.

    Commands that ask at the same time on one machine take turns, so that they get the same job.
    """
    note = note_of(order.key)
    note.parent.mkdir(parents=True, exist_ok=True)
    if order.provider.kind == "local" and order.provider.base_url is None:
        projects.remember(project_root())
    with FileLock(note.with_suffix(".lock")):
        earlier = list(_earlier_jobs(client, order))
        usable = next((job for job in earlier if _usable(client, job, order.provider)), None)
        if usable is None and (unconfirmed := unconfirmed_jobs(client, order.key)):
            usable = next((job for job in unconfirmed if _usable(client, job, order.provider)), None)
            earlier += unconfirmed
        job = usable or create(client, order, attempt=len(earlier), progress=progress)
        write_note(job, order.key)
        forget_request(order.key)
    return job, usable is None


def create(client: openai.OpenAI, order: Order, attempt: int = 0, *, progress: Progress = SILENT) -> FineTuningJob:
    """Upload the files that the provider does not have yet and create the job.

    Args:
        client: a client of the order's provider.
        order: what is to be trained.
        attempt: how many jobs of this order there were, which failed, were cancelled or lost their model.
        progress: receives the cost, and a warning of what ends soon.

    Raises:
        JobError: the provider takes no jobs any more, or its base model was shut down; nothing was uploaded.
    """
    refuse_ended(order.provider, order.lifecycle, progress=progress)
    reserved = order.reserve(progress=progress)
    try:
        training_id, *validation_id = upload(client, order.files, progress=progress)
    except BaseException:
        order.release(reserved)
        raise
    note_request(order.key, training_id)  # the job may exist although no answer comes
    try:
        return _create(client, order, training_id, next(iter(validation_id), None), attempt)
    except openai.APIError as error:
        if is_refused(error):
            order.release(reserved)
            forget_request(order.key)
        raise


def _create(
    client: openai.OpenAI, order: Order, training_file: str, validation_file: str | None, attempt: int
) -> FineTuningJob:
    """Create the job of uploaded files, with one request."""
    training = order.training
    once = client.with_options(max_retries=0)  # a create request that is sent again could be paid for twice
    return once.fine_tuning.jobs.create(
        model=order.provider.base_model,
        training_file=training_file,
        validation_file=validation_file,
        suffix=training.suffix,
        seed=training.seed,
        metadata={ORDER_KEY: order.key},
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


def order_key_of(job: FineTuningJob) -> str | None:
    """The key of the order that the job came from; None if it was created without reviewtune."""
    return (job.metadata or {}).get(ORDER_KEY)


@contextmanager
def note_on_interrupt(job: FineTuningJob, *, progress: Progress = SILENT) -> Iterator[None]:
    """On Ctrl-C, report that the job continues, and with it its cost."""
    try:
        yield
    except KeyboardInterrupt:
        progress.message(f"job {job.id} continues without this command; `reviewtune jobs cancel {job.id}` stops it")
        raise


def _usable(client: openai.OpenAI, job: FineTuningJob, provider: ProviderConfig) -> bool:
    """Whether the job did not fail and its model was not deleted since, as `reviewtune clean` does."""
    if not (model := model_of(job)):
        # One that succeeded may name its model later. One that ended in any other way, such as `error`, never does.
        return job.status == "succeeded" or not has_ended(job)
    if not _lists_models(provider):
        return True
    try:
        client.models.retrieve(model)
    except openai.NotFoundError:
        return False
    return True


def _lists_models(provider: ProviderConfig) -> bool:
    """Whether a 404 for a model means that it is gone.

    At an unknown server it may mean that there is no such route, which is not a reason to pay again.
    """
    return provider.kind == "local" or address_of(provider) == "openai"


def _earlier_jobs(client: openai.OpenAI, order: Order) -> Iterator[FineTuningJob]:
    """All jobs of this order at this provider, whatever their status, each once."""
    seen = set()
    for key in (order.key, *order.earlier_keys):
        for job in _jobs_with(client, key):
            if job.id not in seen:
                seen.add(job.id)
                yield job


def _jobs_with(client: openai.OpenAI, key: str) -> Iterator[FineTuningJob]:
    if noted := noted_job(client, key):
        yield noted
    try:
        listed = client.fine_tuning.jobs.list(metadata={ORDER_KEY: key})
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        listed = client.fine_tuning.jobs.list()  # a provider may refuse the filter
    for job in listed:
        if order_key_of(job) == key:  # compared here too, because a provider may ignore the filter
            yield job
