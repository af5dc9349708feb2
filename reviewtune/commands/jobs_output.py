"""How jobs, events and checkpoints look: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reviewtune.finetuning.follow import Following, checkpoints, follow, looks, numbers, say_advice

if TYPE_CHECKING:
    import openai
    from openai import BaseModel
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
    from rich.table import Table

PIPED_WIDTH = 200  # characters; a pipe has no width of its own, and a job's id must stay whole


def watch(client: "openai.OpenAI", job: "FineTuningJob") -> "FineTuningJob":
    """Follow with a bar, then say what the curve says; returns the job at its end."""
    following = follow(client, job)
    if following.job.fine_tuned_model:
        print(f"fine-tuned model: {following.job.fine_tuned_model}", flush=True)
    if len(following.curve):
        print(f"after step {following.step}: {numbers(following.latest)}", flush=True)
        found = following.advice(checkpoints(client, following.job))
        say_advice(found)
        if not found and following.job.status == "succeeded":
            print("the losses look as they should")
    return following.job


def stream(client: "openai.OpenAI", job: "FineTuningJob") -> "FineTuningJob":
    """Follow as JSON lines: every event, then the job."""
    following = Following(job)
    for news in looks(client, following):
        for event in news:
            print(json.dumps(_plain(event), ensure_ascii=False), flush=True)
    print(json.dumps(_plain(following.job), ensure_ascii=False), flush=True)
    return following.job


def show_json(found: "BaseModel | Sequence[BaseModel]") -> None:
    """One object, or a list of them."""
    plain = [_plain(one) for one in found] if isinstance(found, Sequence) else _plain(found)
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def show_jobs(jobs: "Sequence[FineTuningJob]") -> None:
    table = _table("job", "status", "created", "base model", "fine-tuned model", "tokens")
    for job in jobs:
        tokens = f"{job.trained_tokens:,}" if job.trained_tokens else ""
        table.add_row(job.id, job.status, _time(job.created_at), job.model, job.fine_tuned_model or "", tokens)
    _print(table, empty="no jobs yet; `reviewtune jobs create --help` tells how to make one")


def show_job(job: "FineTuningJob") -> None:
    """Everything that a person may ask about a job, a row each; what is unknown is left out."""
    hyper = job.hyperparameters.model_dump(exclude_none=True) if job.hyperparameters else {}
    rows: dict[str, Any] = {
        "job": job.id,
        "status": job.status,
        "base model": job.model,
        "fine-tuned model": job.fine_tuned_model,
        "created": _time(job.created_at),
        "finished": _time(job.finished_at),
        "estimated finish": _time(job.estimated_finish),
        "training file": job.training_file,
        "validation file": job.validation_file,
        "result files": ", ".join(job.result_files or []),
        "trained tokens": job.trained_tokens,
        "hyperparameters": ", ".join(f"{name} {value}" for name, value in hyper.items()),
        "seed": job.seed,
        "metadata": ", ".join(f"{name}={value}" for name, value in (job.metadata or {}).items()),
        "error": f"{job.error.message} ({job.error.code})" if job.error and job.error.message else None,
    }
    table = _table("", "", header=False)
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    _print(table)


def show_events(events: "Sequence[FineTuningJobEvent]") -> None:
    table = _table("time", "level", "event")
    for event in events:
        table.add_row(_time(event.created_at), event.level, event.message)
    _print(table, empty="no events yet")


def show_checkpoints(found: "Sequence[FineTuningJobCheckpoint]") -> None:
    table = _table("step", "validation loss", "accuracy", "model")
    for one in found:
        values = (one.metrics.full_valid_loss, one.metrics.full_valid_mean_token_accuracy)
        shown = ("" if value is None else f"{value:.3f}" for value in values)
        table.add_row(str(one.step_number), *shown, one.fine_tuned_model_checkpoint)
    _print(table, empty="no checkpoints yet; the first comes at the end of the first epoch")


def _plain(found: "BaseModel") -> dict[str, Any]:
    return found.model_dump(mode="json", by_alias=True, warnings=False)


def _time(seconds: int | None) -> str:
    return "" if not seconds else f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def _table(*columns: str, header: bool = True) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: "Table", empty: str = "") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table if table.row_count else Text(empty))
