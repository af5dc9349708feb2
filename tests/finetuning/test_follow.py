"""Follow a job of a real server: what is reported, and the time left."""

import time
from typing import Any, Literal

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.finetuning import follow as follow_module
from reviewtune.finetuning.follow import JobMonitor, follow, in_words, metrics_of
from reviewtune.finetuning.jobs import note_on_interrupt


def test_a_job_with_an_unknown_status_has_ended_only_if_it_says_so(tuned: FineTuningJob) -> None:
    odd = tuned.model_copy(update={"status": "pondering", "finished_at": None})
    assert not JobMonitor(odd).ended
    assert JobMonitor(odd.model_copy(update={"finished_at": 1})).ended


def test_the_time_left_of_several_jobs_includes_the_later_ones(tuned: FineTuningJob) -> None:
    """The job takes 100 s according to its estimate, 60 of them are left; the other two take as long."""
    now = int(time.time())
    job = JobMonitor(tuned.model_copy(update={"created_at": now - 40, "estimated_finish": now + 60}))
    assert job.seconds_left_of(1) == pytest.approx(60, abs=3)
    assert job.seconds_left_of(3) == pytest.approx(60 + 2 * 100, abs=3)


def test_the_steps_of_a_job_must_come_at_a_steady_pace_for_an_estimate(tuned: FineTuningJob) -> None:
    """Whatever the provider estimates from its first steps."""
    now = int(time.time())
    running = {"status": "running", "created_at": now - 200, "estimated_finish": now + 1593, "finished_at": None}
    job = JobMonitor(tuned.model_copy(update=running))
    for step in range(1, 4):
        job.metrics[step], job._reported_at[step] = {"total_steps": 60}, now - 100 + 10 * step
    assert job.seconds_left_of(1) is None
    for step in range(4, 11):
        job.metrics[step], job._reported_at[step] = {"total_steps": 60}, now - 100 + 10 * step
    assert job.seconds_left_of(1) == pytest.approx(500, rel=0.05)


def test_ctrl_c_during_a_fine_tune_reports_that_the_job_continues(
    tuned: FineTuningJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), note_on_interrupt(tuned, progress=TerminalProgress()):
        raise KeyboardInterrupt
    assert f"job {tuned.id} continues without this command; `reviewtune jobs cancel {tuned.id}` stops it" in (
        capsys.readouterr().out
    )


def test_following_a_job_prints_nothing_unless_asked(
    tuned: FineTuningJob, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = follow(client, tuned)
    assert capsys.readouterr() == ("", "")
    assert follow(client, tuned, progress=TerminalProgress()).step == quiet.step > 0
    shown = capsys.readouterr().out
    assert f"fine-tuning job {tuned.id} on {tuned.model}: succeeded" in shown
    assert f"step {quiet.step}: training loss" in shown


def test_before_the_first_step_the_providers_message_is_shown(tuned: FineTuningJob) -> None:
    """Fetching a base model takes minutes, in which there are no steps."""
    monitor = JobMonitor(tuned.model_copy(update={"status": "running", "finished_at": None}))
    notes: list[str] = []

    def step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
        notes.append(note)

    monitor.message = "gemma-3-270m: 3 of 5 parts, 120 of 238 MB, about 10 s left"
    follow_module._advance(step, monitor, 0, 1)
    monitor.metrics[1] = {"train_loss": 0.5}
    follow_module._advance(step, monitor, 0, 1)
    assert notes == ["gemma-3-270m: 3 of 5 parts, 120 of 238 MB, about 10 s left", "loss 0.500"]


def test_the_newest_message_is_kept_in_one_line(tuned: FineTuningJob, client: openai.OpenAI) -> None:
    monitor = JobMonitor(tuned)
    monitor.update(client)
    assert monitor.message == "The job has successfully completed"
    assert follow_module._short("a\n" * 200) == f"{'a ' * 48}a..."


def test_metrics_are_the_numbers_of_an_event_in_whatever_form() -> None:
    data: dict[str, object] = {
        "step": 3,
        "train_loss": "0.25",
        "valid_loss": None,
        "full_valid_loss": 0.5,
        "note": "a text",
    }

    def event(kind: Literal["metrics", "message"]) -> FineTuningJobEvent:
        fixed: dict[str, Any] = {
            "id": "e",
            "created_at": 1,
            "level": "info",
            "message": "",
            "object": "fine_tuning.job.event",
        }
        return FineTuningJobEvent(**fixed, type=kind, data=data)

    assert metrics_of(event("metrics")) == {"step": 3.0, "train_loss": 0.25, "full_valid_loss": 0.5}
    assert in_words(metrics_of(event("metrics"))) == "training loss 0.250, validation loss 0.500"
    assert metrics_of(event("message")) == {}
