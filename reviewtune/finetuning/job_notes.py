"""The notes on disk of a project's fine-tuning jobs: one file per order, with the id of its job and its models."""

from collections.abc import Sequence
from pathlib import Path

import openai
from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.atomic_files import read_json, write_json, write_text
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.errors import JobError
from reviewtune.providers.model_names import has_finetuned_name
from reviewtune.providers.responses.server_words import words_of

NOTES = ProjectPaths().work / "finetune"
REQUESTS = ProjectPaths().work / "requested_jobs"  # until their jobs are noted


def note_of(key: str) -> Path:
    """The file with the id of this order's job."""
    return project_root() / NOTES / f"{key}.json"


def notes_in(project: Path) -> list[Path]:
    """All notes of a project, those of sweeps and of check-data included."""
    return list((project / NOTES).glob("*.json"))


def write_note(job: FineTuningJob, key: str, *, models: Sequence[str] = ()) -> None:
    """Note the job of this order. Without models, a note of this job stays as it is, because it may name them."""
    note = note_of(key)
    if models or not note.exists() or read_json(note)["job_id"] != job.id:
        write_json({"job_id": job.id, **({"models": models} if models else {})}, note)


def noted_job(client: openai.OpenAI, key: str) -> FineTuningJob | None:
    """The job that the note on disk names, for a provider that keeps no metadata.

    Raises:
        JobError: it is uncertain whether the provider still has this job, so that a new one could be paid for twice.
    """
    note = note_of(key)
    if not note.exists():
        return None
    job_id = str(read_json(note)["job_id"])
    try:
        return client.fine_tuning.jobs.retrieve(job_id)
    except openai.NotFoundError as error:
        if _denies_job(error, job_id):
            return None  # the note is of a different account, or of one that was cleared
        raise not_found(client, job_id, key, error) from error


def note_request(key: str, training_file: str) -> None:
    """Note that a job of this order is about to be requested: its id is known only when the provider answers."""
    write_text(training_file, _request_of(key))


def forget_request(key: str) -> None:
    """The request was refused, or its job is noted."""
    _request_of(key).unlink(missing_ok=True)


def unconfirmed_jobs(client: openai.OpenAI, key: str) -> list[FineTuningJob]:
    """The jobs of a request whose answer never came, found by the uploaded file, as the provider keeps no metadata.

    Raises:
        JobError: it cannot be known whether the provider created the job, so that a new one could be paid for twice.
    """
    request = _request_of(key)
    if not request.exists():
        return []
    training_file = request.read_text(encoding="utf-8")
    try:
        return [job for job in client.fine_tuning.jobs.list() if job.training_file == training_file]
    except openai.APIStatusError as error:
        raise JobError(
            f"a job of this order was requested, but the provider's answer was lost, and {client.base_url} does not "
            f"list its jobs (HTTP {error.status_code}): look there for a job of the file {training_file}; if there is "
            f"none, delete {request} and run the same command again"
        ) from error


def _request_of(key: str) -> Path:
    return project_root() / REQUESTS / key


def not_found(client: openai.OpenAI, job_id: str, key: str, error: openai.NotFoundError) -> JobError:
    """The provider does not find a job that it was paid for: what the user can do."""
    return JobError(
        f"{client.base_url} answers HTTP 404 for fine-tuning job {job_id}, which this order paid for: "
        f"{words_of(error.body) or 'without a reason'}; correct the provider's address, "
        f"or delete {note_of(key)} to create the job again"
    )


def is_finetuned(model: str, project: Path) -> bool:
    """Whether a model that is not in models/finetuned.json is a fine-tuned one.

    The notes of the project's jobs decide, those of sweeps included. For a model that the project did not train, only
    the form of its name is known: `ft:BASE:...` at OpenAI and at the local provider, others at other providers.
    """
    notes = [read_json(note) for note in notes_in(project)]
    return any(model in note.get("models", ()) for note in notes) or has_finetuned_name(model)


def _denies_job(error: openai.NotFoundError, job_id: str) -> bool:
    """Whether the provider itself says that there is no such job; a 404 for the path does not say so."""
    words = words_of(error.body)
    return error.code == "fine_tune_not_found" or (job_id in words and f"/{job_id}" not in words)
