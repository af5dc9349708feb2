"""A long training says so within its first steps, once, and the user of the job sees it."""

import os
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.finetuning.follow import follow
from reviewtune.local_server.fine_tuning.duration import LARGE, LONG, DurationNotice, estimated_seconds, faster_base
from tests.support.serving import ServerProcess, example, finished, running, upload

SUPPORT = Path(__file__).parents[2] / "support"


def notices(step_seconds: float, total: int, suggestion: str = "", *, slow_processor: bool = False) -> dict[int, str]:
    """What is said after which step; the first step takes longer, and the third waits for another program."""
    notice = DurationNotice(suggestion, 0.25, slow_processor=slow_processor)
    lengths = [step_seconds] * total
    lengths[0], lengths[2] = 30, 10 * step_seconds
    texts = {
        step: notice.after(total - step, time.time() + end) for step, end in enumerate(accumulate(lengths), start=1)
    }
    return {step: text for step, text in texts.items() if text}


def test_a_long_training_is_announced_once_within_ten_steps() -> None:
    said = notices(20.0, 115)
    assert list(said) == [6]
    # 310 s so far, 109 steps of 20 s, and a tenth of their time for the validation examples
    assert said[6] == "this training will take about 45 minutes on this machine"


def test_a_training_is_long_after_20_minutes() -> None:
    assert LONG == 20 * 60
    assert notices(5.0, 115) == {}
    assert notices(11.0, 115)


def test_a_training_that_only_later_turns_out_long_is_announced_by_the_tenth_step_or_never() -> None:
    notice = DurationNotice("", 0, slow_processor=False)
    ends = [time.time() + end for end in accumulate([1.0] * 5 + [60.0] * 60)]
    said = [step for step, end in enumerate(ends, start=1) if notice.after(65 - step, end)]
    assert said == [9]
    late = DurationNotice("", 0, slow_processor=False)
    ends = [time.time() + end for end in accumulate([1.0] * 12 + [60.0] * 60)]
    assert not any(late.after(72 - step, end) for step, end in enumerate(ends, start=1))


def test_the_estimate_adds_up_what_was_measured() -> None:
    assert estimated_seconds(0, [40, 50, 60, 70], 100, held_out=0) == pytest.approx(70 + 1000)
    assert estimated_seconds(0, [40, 50, 60, 70], 100, held_out=0.4) == pytest.approx(70 + 1000 * 1.15)


def test_hours_are_not_given_in_minutes() -> None:
    (text,) = notices(200.0, 115).values()
    assert "7.5 hours" in text


def test_only_for_a_large_base_model_a_smaller_one_is_suggested(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.touch()
    os.truncate(weights, 536_000_000)  # gemma-3-270m
    assert faster_base(tmp_path) == ""
    os.truncate(weights, LARGE)  # takes no space on the disk
    suggestion = faster_base(tmp_path)
    (text,) = notices(20.0, 115, suggestion, slow_processor=True).values()
    assert text == (
        "this training will take about 45 minutes on this machine, whose processor has no AMX; "
        "gemma-3-270m takes far less time: dvc exp run -S provider.base_model=gemma-3-270m"
    )


@pytest.fixture
def impatient(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server whose trainers call every training long."""
    path = [str(SUPPORT / "crashing"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("LONG_TRAINING", "0")
    with running(tmp_path / "data", "--base-model", str(tiny_model)) as server:
        yield server


def create(client: openai.OpenAI, base: str, rows: int) -> FineTuningJob:
    hyper = {"n_epochs": 1, "batch_size": 2}
    file = upload(client, [example(index) for index in range(rows)])
    method = {"type": "supervised", "supervised": {"hyperparameters": hyper}}
    return client.fine_tuning.jobs.create(model=base, training_file=file.id, method=method)  # type: ignore[arg-type]


def test_whoever_follows_the_job_reads_it(
    impatient: ServerProcess, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = create(impatient.client, base, rows=24)
    ended = follow(impatient.client, job, progress=TerminalProgress()).job
    lines = [line for line in capsys.readouterr().out.splitlines() if "minutes on this machine" in line]
    assert len(lines) == 1
    assert lines[0].startswith("this training will take about 0 minutes on this machine")
    events = [event for event in impatient.client.fine_tuning.jobs.list_events(job.id) if event.level == "warn"]
    assert [event.message for event in events] == lines
    follow(impatient.client, ended, progress=TerminalProgress())
    assert "on this machine" not in capsys.readouterr().out, "it has ended"


def test_a_short_training_says_nothing(client: openai.OpenAI, base: str) -> None:
    job = finished(client, create(client, base, rows=24).id)
    assert job.status == "succeeded"
    assert not [event for event in client.fine_tuning.jobs.list_events(job.id) if event.level != "info"]
