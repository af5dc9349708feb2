"""Kill -9 at critical moments: nothing is lost, and nothing is done twice."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.local_server.batches.test_conformance import URL, line
from tests.support.serving import ServerProcess, example, finished, running, steps_of, upload, wait_for

EXAMPLES, EPOCHS = 15, 5


def train(client: openai.OpenAI, base: str, suffix: str) -> str:
    """Start a job of many small steps."""
    file = upload(client, [example(index) for index in range(EXAMPLES)])
    parameters: Any = {"hyperparameters": {"n_epochs": EPOCHS, "batch_size": 1}}
    return client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix=suffix, **parameters).id


def wait_for_lines(server: ServerProcess, job_id: str, kind: str, count: int = 1) -> None:
    """Wait until the trainer has written `count` lines of a kind; the server would report them too late."""
    path = server.data_dir / "jobs" / job_id / "progress.jsonl"
    wait_for(lambda: path.exists() and path.read_text().count(f'"kind": "{kind}"') >= count)


def assert_succeeded_once(client: openai.OpenAI, job_id: str) -> str:
    """Check that the job succeeded exactly once; returns its model."""
    job = finished(client, job_id)
    assert job.status == "succeeded", job.error
    assert steps_of(client, job_id) == list(range(1, EXAMPLES * EPOCHS + 1))
    assert len(client.files.content(job.result_files[0]).text.splitlines()) == EXAMPLES * EPOCHS + 1
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
    assert sum("New fine-tuned model" in message for message in messages) == 1
    assert len(list(client.fine_tuning.jobs.checkpoints.list(job_id))) == 3
    names = [model.id for model in client.models.list() if model.id.startswith(str(job.fine_tuned_model))]
    assert len(names) == len(set(names)) == 4
    return names[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_server_killed_while_it_trains_and_answers_a_batch(data: Path, base: str) -> None:
    options = ("--base-model", base)
    server = ServerProcess(data, *options)
    lines = [line(str(number), base, temperature=0) for number in range(700)]
    file = upload(server.client, lines, "batch")
    batch = server.client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    job_id = train(server.client, base, "server")
    trainer = wait_for(lambda: server.trainer(job_id))
    wait_for_lines(server, job_id, "step")
    server.kill()

    with running(data, *options) as again:
        assert again.client.fine_tuning.jobs.retrieve(job_id).status in ("running", "succeeded")
        adopted = again.trainer(job_id)
        assert adopted is None or adopted.pid == trainer.pid
        model = assert_succeeded_once(again.client, job_id)
        assert again.client.chat.completions.create(**line("x", model)["body"]).choices
        assert len(list(again.client.fine_tuning.jobs.list())) == 1
        ended = wait_for(lambda: (current := again.client.batches.retrieve(batch.id)).status == "completed" and current)
        output = again.client.files.content(str(ended.output_file_id)).text.splitlines()
        assert sorted(json.loads(text)["custom_id"] for text in output) == sorted(str(n) for n in range(700))
        assert ended.request_counts is not None
        assert (ended.request_counts.completed, ended.error_file_id) == (700, None)


def test_trainer_killed_then_trainer_and_server(data: Path, base: str) -> None:
    """First the trainer alone, then server and trainer together, as in a power failure."""
    server = ServerProcess(data, "--base-model", base)
    job_id = train(server.client, base, "killed")
    wait_for_lines(server, job_id, "step")
    first = wait_for(lambda: server.trainer(job_id))
    first.kill()
    wait_for_lines(server, job_id, "started", 2)
    second = wait_for(lambda: server.trainer(job_id))
    assert second.pid != first.pid
    server.kill()
    second.kill()
    with running(data, "--base-model", base) as again:
        assert_succeeded_once(again.client, job_id)
        events = list(again.client.fine_tuning.jobs.list_events(job_id, limit=100))
        assert [event.level for event in events].count("warn") == 2


def test_server_ended_while_it_trains(data: Path, base: str) -> None:
    """A clean end of the server also ends the trainer and leaves the job in the queue."""
    with running(data, "--base-model", base) as server:
        job_id = train(server.client, base, "ended")
        wait_for(lambda: server.trainer(job_id))
        assert server.stop() == 0
        assert server.trainer(job_id) is None
    with running(data, "--base-model", base) as again:
        assert again.client.fine_tuning.jobs.retrieve(job_id).status in ("queued", "running")
        again.client.fine_tuning.jobs.cancel(job_id)


def test_trainer_that_always_dies_fails_the_job(data: Path, base: str) -> None:
    with running(data, "--base-model", base) as server:
        job_id = train(server.client, base, "dies")
        killed: set[int] = set()
        while len(killed) < 3:
            trainer = wait_for(lambda: server.trainer(job_id))
            if trainer.pid not in killed:
                killed.add(trainer.pid)
                trainer.kill()
        job = finished(server.client, job_id)
        assert job.error is not None
        assert (job.status, job.error.code) == ("failed", "internal_error")
