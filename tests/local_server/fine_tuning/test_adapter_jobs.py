"""Fine-tunes that are adapters, through the real server: chains, deleted beginnings, kills, a base that moved."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.serving import ServerProcess, example, finished, running, steps_of, upload, wait_for
from tests.support.tiny_qwen import write_tiny_qwen

pytestmark = pytest.mark.model
WEIGHTS = "adapter_model.safetensors"
LINES = [example(index) for index in range(12)]
QUESTION = LINES[0]["messages"][:2]


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of two layers, whose family is trained with adapters."""
    return write_tiny_qwen(tmp_path_factory.mktemp("bases") / "tiny-qwen", tiny_model)


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("adapters") / "data"
    with running(data, "--base-model", str(base), warm_trainings=True) as process:
        yield process


def started(server: ServerProcess, model: str, *, epochs: int, suffix: str) -> str:
    file = upload(server.client, LINES)
    parameters = {"n_epochs": epochs, "batch_size": 2}
    method = {"type": "supervised", "supervised": {"hyperparameters": parameters}}
    job = server.client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        suffix=suffix,
        seed=3,
        method=method,  # type: ignore[arg-type]
    )
    return job.id


def trained(server: ServerProcess, model: str, *, epochs: int = 1, suffix: str) -> tuple[str, Path]:
    """The model's name and its folder."""
    job = finished(server.client, started(server, model, epochs=epochs, suffix=suffix))
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    return job.fine_tuned_model, server.data_dir / "models" / job.id


def answer(server: ServerProcess, model: str) -> str:
    reply = server.client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=4)
    return reply.choices[0].message.content or ""


def test_a_chain_survives_the_deletion_of_its_beginning(server: ServerProcess, base: Path) -> None:
    first, folder = trained(server, str(base), suffix="first")
    assert (folder / WEIGHTS).exists()
    assert not (folder / "model.safetensors").exists()
    second = started(server, first, epochs=40, suffix="second")
    wait_for(lambda: steps_of(server.client, second))
    server.client.models.delete(first)
    job = finished(server.client, second)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    answer(server, job.fine_tuned_model)
    third, folder = trained(server, job.fine_tuned_model, suffix="third")
    assert (folder / WEIGHTS).exists()
    answer(server, third)


def test_a_job_that_waits_keeps_the_beginning_that_is_deleted(server: ServerProcess, base: Path) -> None:
    first, _ = trained(server, str(base), suffix="gone")
    blocker = started(server, str(base), epochs=30, suffix="blocker")  # one job is trained at a time
    waiting = started(server, first, epochs=1, suffix="waiting")
    kept = server.data_dir / "jobs" / waiting / "start"
    assert (kept / WEIGHTS).exists()
    server.client.models.delete(first)
    finished(server.client, blocker)
    job = finished(server.client, waiting)
    assert job.status == "succeeded", job.error
    wait_for(lambda: not kept.exists())


def test_a_killed_training_continues_without_its_deleted_beginning(base: Path, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--base-model", str(base), warm_trainings=True) as server:
        first, _ = trained(server, str(base), suffix="first")
        _, undisturbed = trained(server, first, epochs=30, suffix="second")
    with running(tmp_path / "other", "--base-model", str(base)) as server:
        first, _ = trained(server, str(base), suffix="first")
        job_id = started(server, first, epochs=30, suffix="second")
        wait_for(lambda: len(steps_of(server.client, job_id)) > 20)
        server.client.models.delete(first)
        if (trainer := server.trainer(job_id)) is not None:
            trainer.kill()
        job = finished(server.client, job_id)
        assert job.status == "succeeded", job.error
        assert (server.data_dir / "models" / job_id / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()


def test_a_job_whose_files_were_removed_stops_no_other(server: ServerProcess, base: Path) -> None:
    blocker = started(server, str(base), epochs=30, suffix="blocking")
    lost, next_one = (started(server, str(base), epochs=1, suffix=suffix) for suffix in ("lost", "next"))
    wait_for(lambda: server.client.fine_tuning.jobs.retrieve(next_one).status == "queued")
    shutil.rmtree(server.data_dir / "jobs" / lost)
    server.client.fine_tuning.jobs.cancel(blocker)
    job = finished(server.client, lost)
    assert job.status == "failed"
    assert job.error
    assert "The job's files were removed from the disk" in job.error.message
    assert finished(server.client, next_one).status == "succeeded"


def test_a_killed_training_ends_with_the_same_adapter(server: ServerProcess, base: Path, tmp_path: Path) -> None:
    _, undisturbed = trained(server, str(base), epochs=30, suffix="same")
    with running(tmp_path / "data", "--base-model", str(base)) as other:
        job_id = started(other, str(base), epochs=30, suffix="same")
        wait_for(lambda: len(steps_of(other.client, job_id)) > 20)
        if (trainer := other.trainer(job_id)) is not None:
            trainer.kill()
        assert finished(other.client, job_id).status == "succeeded"
        for name in (WEIGHTS, "adapter_config.json"):
            assert (other.data_dir / "models" / job_id / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_base_that_is_gone_is_named_and_may_come_back(tmp_path: Path, base: Path) -> None:
    own = Path(shutil.copytree(base, tmp_path / "my base"))
    with running(tmp_path / "data", "--base-model", str(own)) as server:
        model, _ = trained(server, str(own), suffix="mine")
        expected = answer(server, model)
    own.rename(tmp_path / "elsewhere")
    with running(tmp_path / "data", "--base-model", str(base)) as server:
        with pytest.raises(openai.APIStatusError, match="my base does not exist"):
            answer(server, model)
        (tmp_path / "elsewhere").rename(own)
        assert answer(server, model) == expected


def add(adapter: Path, name: str, base: Path, account: Path) -> str:
    """Add an adapter to an account; returns what it prints if it fails."""
    folders = ["--adapter", str(adapter), "--data-dir", str(account), "--cache-dir", str(account.parent / "cache")]
    command = [sys.executable, "-m", "reviewtune.local_server.import_model", "--model", name, "--base", str(base)]
    return subprocess.run([*command, *folders], capture_output=True, text=True).stderr


def test_another_account_answers_with_a_copied_adapter(server: ServerProcess, base: Path, tmp_path: Path) -> None:
    name, folder = trained(server, str(base), epochs=3, suffix="copied")
    moved = shutil.copytree(base, tmp_path / "elsewhere")
    copy = shutil.copytree(folder, tmp_path / "adapter")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/not/here"}))
    with running(tmp_path / "data", "--base-model", str(moved)) as other:
        with pytest.raises(openai.NotFoundError):
            answer(other, name)
        assert add(copy, name, moved, other.data_dir) == ""
        assert answer(other, name) == answer(server, name)
        assert add(copy, name, moved, other.data_dir) == ""  # nothing more to do
        assert len(list((other.data_dir / "models").iterdir())) == 1
        other.client.models.delete(name)
        assert add(copy, name, moved, other.data_dir) == ""  # as the champion of the registry comes back
        assert answer(other, name) == answer(server, name)


def test_what_is_no_adapter_is_refused_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    shown = add(base, "ft:x", base, tmp_path / "data")
    assert shown == f"error: {base} is not an adapter: it has no adapter_config.json\n"
    assert not (tmp_path / "data").exists()
