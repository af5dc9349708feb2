"""Print jobs, events and checkpoints: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.finetuning.checkpoints import kept_checkpoints
from reviewtune.finetuning.follow import JobMonitor, follow, in_words, report_advice, updates

if TYPE_CHECKING:
    import openai
    from openai import BaseModel
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

    from reviewtune.core.terminal.tables import FittedTable

PIPED_WIDTH = 200  # characters; a pipe has no width, and the ids of jobs must not be cut


def watch(client: "openai.OpenAI", job: "FineTuningJob") -> "FineTuningJob":
    """Follow with a bar, then print advice on the loss curve; returns the job at its end."""
    progress = TerminalProgress()
    monitor = follow(client, job, progress=progress)
    if monitor.job.fine_tuned_model:
        progress.message(f"fine-tuned model: {monitor.job.fine_tuned_model}")
    if len(monitor.curve):
        progress.message(f"after step {monitor.step}: {in_words(monitor.latest)}")
        findings = monitor.advice(kept_checkpoints(client, monitor.job))
        report_advice(findings, progress)
        if not findings and monitor.job.status == "succeeded":
            progress.message("the losses look as they should")
    return monitor.job


def stream(client: "openai.OpenAI", job: "FineTuningJob") -> "FineTuningJob":
    """Follow with JSON lines: every event, then the job; returns the job at its end."""
    monitor = JobMonitor(job)
    for news in updates(client, monitor):
        for event in news:
            print(json.dumps(_plain(event), ensure_ascii=False), flush=True)
    print(json.dumps(_plain(monitor.job), ensure_ascii=False), flush=True)
    return monitor.job


def show_json(content: "BaseModel | Sequence[BaseModel]") -> None:
    """Print one object, or a list of them."""
    plain = [_plain(item) for item in content] if isinstance(content, Sequence) else _plain(content)
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def show_jobs(jobs: "Sequence[FineTuningJob]") -> None:
    table = _table("job", "status", "created", "base model", "fine-tuned model", "tokens")
    for job in jobs:
        tokens = f"{job.trained_tokens:,}" if job.trained_tokens else ""
        table.add_row(job.id, job.status, _time(job.created_at), job.model, job.fine_tuned_model or "", tokens)
    _print(table, empty="no jobs yet; `reviewtune jobs create --help` shows how to create one")


def show_job(job: "FineTuningJob") -> None:
    """Print what is known of a job, one row per field."""
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


def show_checkpoints(checkpoints: "Sequence[FineTuningJobCheckpoint]") -> None:
    table = _table("step", "validation loss", "accuracy", "model")
    for checkpoint in checkpoints:
        metrics = checkpoint.metrics
        loss, accuracy = _rounded(metrics.full_valid_loss), _rounded(metrics.full_valid_mean_token_accuracy)
        table.add_row(str(checkpoint.step_number), loss, accuracy, checkpoint.fine_tuned_model_checkpoint)
    _print(table, empty="no checkpoints yet; the first comes at the end of the first epoch")


def _plain(content: "BaseModel") -> dict[str, Any]:
    return content.model_dump(mode="json", by_alias=True, warnings=False)


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(seconds: int | None) -> str:
    return "" if not seconds else f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def _table(*columns: str, header: bool = True) -> "FittedTable":
    from rich.box import SIMPLE_HEAD

    from reviewtune.core.terminal.tables import FittedTable

    return FittedTable(*columns, header=header, box=SIMPLE_HEAD)


def _print(table: "FittedTable", empty: str = "") -> None:
    from rich.console import Console
    from rich.text import Text

    # without markup, as the cells hold a server's words
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, markup=False)
    console.print(table if table.row_count else Text(empty))
