"""A fine-tuning job from start to model, at any provider: never created twice, followed, its curve fetched.

A job's key is a hash of its files, base model, settings and provider. It stands in the job's metadata and on disk, so
that a command that was killed at any moment finds its job again instead of paying for a second one.
"""

import base64
import binascii
import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pandas as pd
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

from reviewtune.config import Provider, Training, project_root
from reviewtune.dataset import sha256
from reviewtune.errors import JobError
from reviewtune.progress import Step, progress_bar

ENDED_BADLY = ("failed", "cancelled")
HAVE_MODEL_LIST = ("local", "openai")  # elsewhere "no such model" may only mean "no such route": no reason to pay twice
POLL_SECONDS = (0.5, 3.0)  # from, to: short jobs feel quick, long ones are not pestered
CURVE_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


@dataclass(frozen=True)
class Order:
    """What is to be trained."""

    training_file: Path
    validation_file: Path
    provider: Provider
    training: Training
    allow: Callable[[], object] = lambda: None  # called before a job is created; raises where that would cost too much

    @property
    def key(self) -> str:
        """64 hex digits: equal orders, equal keys."""
        named = {
            "files": [sha256(self.training_file), sha256(self.validation_file)],
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
    checkpoints: list[dict[str, Any]]  # step, model, valid_loss; in order of step


def finetune(client: openai.OpenAI, order: Order) -> Finetuned:
    """Find the job of this order or create it, follow it to its end, fetch what it left.

    Raises:
        JobError: the job failed, was cancelled, or ended without a model.
        openai.APIError: the provider refused or could not be reached.
    """
    known = list(_candidates(client, order.key))
    usable = (job for job in known if _usable(client, job, order.provider))
    job = next(usable, None) or create(client, order, len(known))
    _remember(order.key, job.id)
    job = follow(client, job)
    if job.status != "succeeded" or not job.fine_tuned_model:
        reason = f": {job.error.message} ({job.error.code})" if job.error and job.error.message else ""
        raise JobError(f"fine-tuning job {job.id} ended as {job.status}{reason}; mend that, run the same command again")
    return Finetuned(job, job.fine_tuned_model, curve(client, job), checkpoints(client, job))


def create(client: openai.OpenAI, order: Order, attempt: int = 0) -> FineTuningJob:
    """Upload what is not there yet and create the job; `attempt` counts the ones that failed or were cancelled."""
    order.allow()
    training, once = order.training, client.with_options(max_retries=0)  # a repeated create could be paid twice
    return once.fine_tuning.jobs.create(
        model=order.provider.base_model,
        training_file=_upload(client, order.training_file).id,
        validation_file=_upload(client, order.validation_file).id,
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


def follow(client: openai.OpenAI, job: FineTuningJob) -> FineTuningJob:
    """Wait for the job's end with a progress bar. Ctrl-C leaves the job running: the same command finds it again."""
    pause, longest = POLL_SECONDS
    print(f"fine-tuning job {job.id} on {job.model}: {job.status}", flush=True)
    with progress_bar("fine-tuning", total=None) as step:
        shown = 0
        while (job := client.fine_tuning.jobs.retrieve(job.id)).finished_at is None and job.status != "succeeded":
            if job.status in ENDED_BADLY:
                break
            shown = _show(client, job, shown, step)
            time.sleep(pause)
            pause = min(pause * 1.2, longest)
        _show(client, job, shown, step)
    return job


def curve(client: openai.OpenAI, job: FineTuningJob) -> pd.DataFrame:
    """The job's result file as a table; OpenAI serves it in base64, others as plain CSV: both are read."""
    if not job.result_files:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    content = client.files.content(job.result_files[0]).content
    with contextlib.suppress(binascii.Error):  # plain CSV
        content = base64.b64decode(content, validate=True)
    return pd.read_csv(io.BytesIO(content))


def checkpoints(client: openai.OpenAI, job: FineTuningJob) -> list[dict[str, Any]]:
    """Step, model name and validation loss of the checkpoints that the provider kept."""
    found = [
        {"step": c.step_number, "model": c.fine_tuned_model_checkpoint, "valid_loss": c.metrics.full_valid_loss}
        for c in client.fine_tuning.jobs.checkpoints.list(job.id)
    ]
    return sorted(found, key=lambda checkpoint: checkpoint["step"])


def _usable(client: openai.OpenAI, job: FineTuningJob, provider: Provider) -> bool:
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
    note = _note(key)
    if not note.exists():
        return None
    try:
        return client.fine_tuning.jobs.retrieve(json.loads(note.read_text())["job_id"])
    except openai.NotFoundError:
        note.unlink()  # another account, or one that was cleared
        return None


def _upload(client: openai.OpenAI, path: Path) -> FileObject:
    """The file at the provider, found by a name that holds its hash, or uploaded."""
    name = f"{path.stem}-{sha256(path)[:16]}{path.suffix}"
    for found in client.files.list(purpose="fine-tune"):
        if found.filename == name and found.bytes == path.stat().st_size:
            return found
    uploaded = client.files.create(file=(name, path.read_bytes()), purpose="fine-tune")
    return client.files.wait_for_processing(uploaded.id, poll_interval=1)


def _note(key: str) -> Path:
    return project_root() / ".work" / "finetune" / f"{key}.json"


def _remember(key: str, job_id: str) -> None:
    note = _note(key)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"job_id": job_id}))


def _show(client: openai.OpenAI, job: FineTuningJob, shown: int, step: Step) -> int:
    """Bring the bar up to the newest metrics event; returns the step that is shown."""
    for event in client.fine_tuning.jobs.list_events(job.id, limit=10).data:  # newest first
        data = event.data if isinstance(event.data, dict) else {}
        if event.type == "metrics" and "step" in data:
            now, total = int(data["step"]), int(data.get("total_steps", 0)) or None
            step(max(now - shown, 0), total=total, note=f"loss {float(data.get('train_loss', 'nan')):.3f}")
            return max(now, shown)
    step(note=job.status)  # an unknown status is shown, not fatal
    return shown
