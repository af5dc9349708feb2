"""Kill -9 at any point, of the trainer or the server: the job still ends with the weights of an undisturbed one.

To try other crashes: CRASH_SEED=7 pytest tests/local_server/test_durability.py
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import openai
import psutil
import pytest
from openai.types import Batch
from safetensors import safe_open

from reviewtune.errors import ProviderError
from tests.support.serving import ServerProcess, example, finished, running, steps_of, upload, wait_for

EXAMPLES, EPOCHS, SEED = 12, 4, 5
STEPS = EXAMPLES * EPOCHS
URL: Final = "/v1/chat/completions"
REQUESTS = 700  # of the batch: more than the engine gets at a time
CRASH_SEED = int(os.environ.get("CRASH_SEED", "0"))


class Place(NamedTuple):
    """A server that can be restarted on its folder, and a file with the planned crashes of its trainers."""

    data: Path
    base: str
    plan: Path

    def start(self) -> ServerProcess:
        return ServerProcess(self.data, "--base-model", self.base)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("durable")
    plan = folder / "plan.json"
    plan.write_text("[]")
    hooks = str(Path(__file__).parent.parent / "support" / "crashing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [hooks, os.environ.get("PYTHONPATH")])))
        patch.setenv("CRASH_PLAN", str(plan))
        yield Place(folder / "data", str(tiny_model), plan)


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> str:
    """Hash of the weights that every test below must end with."""
    with running(place.data, "--base-model", place.base) as server:
        return weights(place, finished(server.client, train(server.client, place.base, "undisturbed")).id)


def train(client: openai.OpenAI, base: str, suffix: str) -> str:
    files = [upload(client, [example(n) for n in numbers]).id for numbers in (range(EXAMPLES), range(90, 94))]
    parameters: Any = {"hyperparameters": {"n_epochs": EPOCHS, "batch_size": 1}}
    job = client.fine_tuning.jobs.create(
        model=base, training_file=files[0], validation_file=files[1], suffix=suffix, seed=SEED, **parameters
    )
    return job.id


def ask_many(client: openai.OpenAI, base: str) -> Batch:
    body = {"model": base, "messages": [{"role": "user", "content": "case"}], "max_completion_tokens": 4}
    request = {"method": "POST", "url": URL, "body": body | {"temperature": 0}}
    file = upload(client, [{"custom_id": str(number), **request} for number in range(REQUESTS)], "batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")


def weights(place: Place, job_id: str) -> str:
    return hashlib.sha256((place.data / "models" / job_id / "model.safetensors").read_bytes()).hexdigest()


def assert_as_if_nothing_had_happened(place: Place, client: openai.OpenAI, job_id: str, undisturbed: str) -> None:
    job = finished(client, job_id)
    assert job.status == "succeeded", job.error
    assert weights(place, job_id) == undisturbed
    assert steps_of(client, job_id) == list(range(1, STEPS + 1))
    kept = [checkpoint.step_number for checkpoint in client.fine_tuning.jobs.checkpoints.list(job_id)]
    assert kept == [STEPS, STEPS - EXAMPLES, STEPS - 2 * EXAMPLES]
    assert len(client.files.content(job.result_files[0]).text.splitlines()) == STEPS + 1
    models = [model.id for model in client.models.list() if model.id.startswith(str(job.fine_tuned_model))]
    assert len(models) == 4
    messages = " ".join(event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=1000))
    assert (messages.count("Checkpoint created"), messages.count("New fine-tuned model")) == (EPOCHS, 1)
    leftovers = [
        path.name for path in (place.data / "models" / job_id).rglob("*") if path.name.startswith((".", "resume"))
    ]
    assert leftovers == []


def test_trainer_killed_at_critical_moments(place: Place, undisturbed: str) -> None:
    """Before the first step, within an epoch, while a checkpoint is written, between checkpoint and success."""
    draw = random.Random(CRASH_SEED)
    moments = [
        ("progress.jsonl", draw.randint(1, 3)),  # before the first step
        ("progress.jsonl", 3 + EXAMPLES + draw.randint(3, EXAMPLES)),  # in the second epoch
        ("/.step-", draw.randint(1, 4)),  # the checkpoint is half written
        ("resume.", 2),  # the third checkpoint's model exists, the state to resume from does not
        ("/result.json", 1),  # the training is complete, but not reported
    ]
    place.plan.write_text(json.dumps(moments))
    with running(place.data, "--base-model", place.base) as server:
        job_id = train(server.client, place.base, "trainer")
        assert_as_if_nothing_had_happened(place, server.client, job_id, undisturbed)
        log = (place.data / "jobs" / job_id / "progress.jsonl").read_text()
    assert json.loads(place.plan.read_text()) == []
    assert log.count('"kind": "started"') == len(moments) + (moments[0][1] > 1)
    assert '"kind": "step"' not in log.rpartition('"kind": "started"')[2]  # finished steps are not repeated


def test_server_killed_again_and_again(place: Place, undisturbed: str) -> None:
    """At random moments, while a batch runs; every server continues where the last one was cut off."""
    draw = random.Random(CRASH_SEED)
    server = place.start()
    job_id = train(server.client, place.base, "server")
    batch_id = ask_many(server.client, place.base).id
    for kind in ("kill", "kill", "ctrl-c"):
        time.sleep(draw.uniform(0, 1.5))
        if kind == "kill":
            server.kill()
        else:
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(30) == 0
        server = place.start()
    try:
        assert_as_if_nothing_had_happened(place, server.client, job_id, undisturbed)
        ended = wait_for(
            lambda: (current := server.client.batches.retrieve(batch_id)).status == "completed" and current
        )
        output = server.client.files.content(str(ended.output_file_id)).text.splitlines()
        assert sorted(json.loads(text)["custom_id"] for text in output) == sorted(str(n) for n in range(REQUESTS))
        wait_for(lambda: not list((place.data / "batches").iterdir()))
    finally:
        server.stop()


def test_trainer_of_a_job_cancelled_while_the_server_was_down_is_ended(place: Place) -> None:
    """The cancel was recorded, but the server was killed before it acted on it."""
    server = place.start()
    job_id = train(server.client, place.base, "cancelled")
    wait_for(lambda: (place.data / "jobs" / job_id / "trainer.json").exists())
    server.kill()
    with sqlite3.connect(place.data / "account.db") as database:
        database.execute("UPDATE jobs SET status = 'cancelled' WHERE id = ?", [job_id])
    with running(place.data, "--base-model", place.base) as again:
        wait_for(lambda: again.trainer(job_id) is None)
        assert again.client.fine_tuning.jobs.retrieve(job_id).status == "cancelled"
        assert [path for path in (place.data / "models" / job_id).glob("*") if path.is_file()] == []


def test_all_weights_and_states_are_safetensors(place: Place, undisturbed: str) -> None:
    """No file in the account can run code when it is loaded."""
    allowed = {".safetensors", ".json", ".jsonl", ".db", ".db-wal", ".db-shm", ".log", ".jinja"}
    stored = {path.suffix for path in place.data.rglob("*") if path.is_file() and path.parent.name != "files"}
    assert ".safetensors" in stored
    assert stored <= allowed | {".lock", ".csv", ""}, stored
    for path in place.data.rglob("*.safetensors"):
        with safe_open(path, "pt") as opened:
            assert opened.keys()


def test_a_pickle_is_not_a_base_model(tmp_path: Path, tiny_model: Path) -> None:
    """A folder whose weights are a pickle is refused without opening it."""
    import torch

    from reviewtune.local_server.engine.model_loading import load_model

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ProviderError, match="safetensors"):
        load_model(folder, torch.float32, "sdpa")


def test_two_clients_create_one_job(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [example(index) for index in range(3)])
    job_ids: list[str] = []

    def create() -> None:
        headers = {"Idempotency-Key": "the same order"}
        job_ids.append(client.fine_tuning.jobs.create(model=base, training_file=file.id, extra_headers=headers).id)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(job_ids), len(set(job_ids))) == (8, 1)
    assert [job.id for job in client.fine_tuning.jobs.list()].count(job_ids[0]) == 1


@pytest.mark.parametrize(
    "name", ["../../outside.jsonl", "..%2f..%2foutside.jsonl", "/etc/outside.jsonl", "..\\..\\outside.jsonl"]
)
def test_file_names_are_not_used_in_paths(server: ServerProcess, base: str, name: str) -> None:
    before = {path for path in server.data_dir.parent.rglob("*") if "outside" in path.name}
    client = server.client
    file = upload(client, [example(index) for index in range(12)], name=name)
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix=f"../../{name}"[:64])
    client.fine_tuning.jobs.cancel(job.id)
    assert {path.name for path in (server.data_dir / "files").iterdir()} >= {file.id}
    assert {path for path in server.data_dir.parent.rglob("*") if "outside" in path.name} == before
    assert all(path.name.startswith("ftjob-") for path in (server.data_dir / "jobs").iterdir())
    for route in ("files/..%2f..%2faccount.db/content", "fine_tuning/jobs/..%2f..%2fx", "models/../../account.db"):
        assert httpx2.get(f"{server.base_url}/{route}").status_code == 404


def test_a_big_upload_streams_to_disk(server: ServerProcess, tmp_path: Path) -> None:
    """An upload of 100 MB needs far less memory; a line of 30 MB is refused without being read completely."""
    big, long = tmp_path / "big.jsonl", tmp_path / "long.jsonl"
    with big.open("wb") as stream:
        for _ in range(100):
            stream.write(json.dumps({"messages": "x" * 2**20}).encode() + b"\n")
    long.write_bytes(b'{"messages": "' + b"x" * 30 * 2**20 + b'"}\n')
    process = psutil.Process(server.process.pid)
    before, peaks, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peaks.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with big.open("rb") as content:
        file = server.client.files.create(file=content, purpose="fine-tune")
    done.set()
    watcher.join()
    assert file.bytes == big.stat().st_size
    assert max(peaks) - before < 50 * 2**20
    with long.open("rb") as content, pytest.raises(openai.BadRequestError, match="Line 1 is not"):
        server.client.files.create(file=content, purpose="fine-tune")
    server.client.files.delete(file.id)


@pytest.mark.parametrize("damage", ["no database", "another version"])
def test_an_unusable_database_gives_a_one_line_error(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if damage == "no database":
        (data / "account.db").write_bytes(b"these are no tables " * 500)
    else:
        with sqlite3.connect(data / "account.db") as database:
            database.execute("CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id TEXT)")
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--data-dir", str(data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (message,) = [text for text in ended.stderr.splitlines() if text.startswith("error: ")]
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "account.db" in message
    assert "--data-dir" in message
