"""`reviewtune jobs ...` with a real server: tables for people, JSON for programs, errors in one line."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from reviewtune.commands.main import main
from tests.support.serving import ServerProcess, example, finished, jsonl, wait_for

DOWN = ("--set", "provider.base_url=http://127.0.0.1:9/v1", "--set", "provider.max_retries=0")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def workspace(tmp_path: Path, server: ServerProcess, base: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose params.yaml points at the test's server, and two chat files."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["provider"] |= {"base_url": server.base_url, "base_model": base, "max_retries": 1}
    params["training"] |= {"n_epochs": 2, "batch_size": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "conf").symlink_to(project / "conf")
    (tmp_path / "train.jsonl").write_bytes(jsonl([example(index) for index in range(24)]))
    (tmp_path / "valid.jsonl").write_bytes(jsonl([example(index) for index in range(24, 30)]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["reviewtune", "jobs", *words])
        status: Any = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        if isinstance(status, str):  # sys.exit prints it at the end
            status, err = 1, err + status
        return status or 0, out, err

    return run


def test_a_job_is_created_once_and_every_command_shows_it(run: Run, workspace: Path, client: openai.OpenAI) -> None:
    order = ("create", "train.jsonl", "--validation", "valid.jsonl", "--suffix", "by-hand", "--n-epochs", "3")
    status, out, err = run(*order)
    job_id = out.strip()
    assert (status, job_id[:6], "24 examples" in err) == (0, "ftjob-", True)
    again = run(*order)
    assert (again[1].strip(), "created before" in again[2]) == (job_id, True)

    status, out, _ = run("follow", job_id)
    assert status == 0
    assert "step 9: training loss" in out
    assert "validation loss" in out
    assert "fine-tuned model: ft:tiny:local:by-hand:" in out
    assert "advice: " in out or "as they should" in out
    job = json.loads(run("get", job_id, "--json")[1])
    assert (job["status"], job["hyperparameters"]["n_epochs"]) == ("succeeded", 3)
    assert job["fine_tuned_model"] in run("get", job_id)[1]
    listed = run("list", "--json", "--limit", "200")[1]
    assert [job["id"] for job in json.loads(listed)].count(job_id) == 1
    assert job_id in run("list")[1]
    assert [checkpoint["step_number"] for checkpoint in json.loads(run("checkpoints", job_id, "--json")[1])] == [
        3,
        6,
        9,
    ]
    assert "ckpt-step-6" in run("checkpoints", job_id)[1]
    assert run("events", job_id, "--limit", "100")[1].count("Step ") == 9
    lines = [json.loads(line) for line in run("follow", job_id, "--json")[1].splitlines()]
    assert (lines[-1]["id"], {line["object"] for line in lines[:-1]}) == (job_id, {"fine_tuning.job.event"})
    code, *shown = run("curve", job_id, "--out", "pictures/curve.png")
    assert code == 1
    assert "there is no folder" in str(shown)
    (workspace / "pictures").mkdir()
    assert run("curve", job_id, "--out", "pictures/curve.png")[0] == 0
    assert (workspace / "pictures/curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_in_utf16_is_the_same_job_as_in_utf8(run: Run, workspace: Path, client: openai.OpenAI) -> None:
    """Windows writes it so; the provider gets UTF-8."""
    text = (workspace / "train.jsonl").read_text(encoding="utf-8")
    job_id = run("create", "train.jsonl", "--suffix", "encoded")[1].strip()
    (workspace / "train.jsonl").write_bytes(text.encode("utf-16"))
    status, out, err = run("create", "train.jsonl", "--suffix", "encoded")
    assert (status, out.strip(), "created before" in err) == (0, job_id, True)
    uploaded = client.fine_tuning.jobs.retrieve(job_id).training_file
    assert client.files.content(uploaded).read() == text.encode()


def test_a_file_with_calls_of_functions_goes_to_the_provider(run: Run, workspace: Path, client: openai.OpenAI) -> None:
    """The server teaches them if the model's chat template has a format for them, and says so if not."""
    call = {"id": "c1", "type": "function", "function": {"name": "label", "arguments": '{"issue": "late"}'}}
    tool = {"type": "function", "function": {"name": "label", "parameters": {"type": "object"}}}
    user, calls = {"role": "user", "content": "late"}, {"role": "assistant", "content": None, "tool_calls": [call]}
    (workspace / "calls.jsonl").write_bytes(jsonl([{"messages": [user, calls], "tools": [tool]}] * 12))
    status, out, err = run("create", "calls.jsonl", "--follow")
    assert status == 1
    assert "12 examples" in err
    assert "ended as failed" in err
    assert "use a base model whose template has one" in err.splitlines()[-1]
    error = client.fine_tuning.jobs.retrieve(out.split()[0]).error
    assert error is not None
    assert error.code == "invalid_training_file"
    (workspace / "calls.jsonl").write_bytes(jsonl([{"messages": [user, calls | {"tool_calls": [{"id": 1}]}]}] * 12))
    assert "line 1: an assistant message: a tool call needs an id" in run("create", "calls.jsonl")[2]


def test_three_commands_at_once_create_one_job(workspace: Path, client: openai.OpenAI) -> None:
    program = "from reviewtune.commands.main import main; main()"
    command = [sys.executable, "-c", program, "jobs", "create", "train.jsonl", "--suffix", "at-once"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    ids = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 3
    (job_id,) = ids
    (only,) = [job for job in client.fine_tuning.jobs.list() if getattr(job, "user_provided_suffix", "") == "at-once"]
    assert only.id == job_id


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Accept Ctrl-C even if the tests were started with `&`, since shells let such programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def interrupting(*pauses: float) -> Iterator[None]:
    """Press Ctrl-C after each of these pauses in seconds, until the block ends.

    Once is not always enough: Python drops an exception that is raised within a callback, such as that of hypothesis at
    a garbage collection.
    """
    ended = threading.Event()

    def press() -> None:
        for pause in pauses:
            if ended.wait(pause):
                return
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@pytest.mark.usefixtures("_ctrl_c")
def test_a_job_can_be_paused_resumed_cancelled_and_followed_again_after_ctrl_c(
    run: Run, workspace: Path, client: openai.OpenAI
) -> None:
    options = ("--n-epochs", "50", "--batch-size", "1", "--suffix", "stop")
    job_id = run("create", "train.jsonl", *options)[1].strip()
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job_id).status == "running")
    with interrupting(1.5, 30):
        status, _, err = run("follow", job_id)
    assert status == 130
    assert f"reviewtune jobs follow {job_id}" in err
    assert client.fine_tuning.jobs.retrieve(job_id).status == "running"
    assert run("pause", job_id)[1] == f"{job_id}: paused\n"
    assert run("resume", job_id)[1] == f"{job_id}: queued\n"
    assert json.loads(run("cancel", job_id, "--json")[1])["status"] == "cancelled"
    status, _, err = run("follow", job_id)
    assert (status, err.splitlines()[-1]) == (1, f"error: fine-tuning job {job_id} ended as cancelled")
    status, _, err = run("pause", job_id)
    assert (status, "is cancelled" in err) == (1, True)
    assert run("create", "train.jsonl", *options)[1].strip() != job_id  # a cancelled job is created again
    client.fine_tuning.jobs.cancel(json.loads(run("get", "--json")[1])["id"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("get", "ftjob-nothing"), "Could not find fine tune: ftjob-nothing"),
        (("create", "nothing.jsonl"), "nothing.jsonl"),
        (("create", "few.jsonl"), "few.jsonl: 9 examples, at least 10"),
        (("create", "torn.jsonl"), "torn.jsonl line 3: not valid JSON"),
        (("create", "binary.jsonl"), "is not UTF-8"),
        (("create", "train.jsonl", "--validation", "torn.jsonl"), "torn.jsonl line 3"),
        (("create", "train.jsonl", "--n-epochs", "51"), "n_epochs"),
        (("create", "train.jsonl", "--n-epochs", "many"), "n_epochs"),
        (("create", "train.jsonl", "--learning-rate-multiplier", "0"), "learning_rate_multiplier"),
        (("create", "train.jsonl", "--suffix", "../../etc"), "suffix"),
        (("list", "--provider", "nonsense"), "nonsense"),
        (("list", "--provider", "openai"), "OPENAI_API_KEY is not set"),
        (("list", *DOWN), "http://127.0.0.1:9/v1 cannot be reached"),
        (("list", "--set", "provider.nonsense=1"), "nonsense"),
        (("curve", "--out", "curve.pdf"), "PNG"),
    ],
)
def test_every_error_is_one_line_on_standard_error(
    run: Run, workspace: Path, words: tuple[str, ...], message: str
) -> None:
    good = (workspace / "train.jsonl").read_bytes().splitlines(keepends=True)
    (workspace / "few.jsonl").write_bytes(b"".join(good[:9]))
    (workspace / "torn.jsonl").write_bytes(b"".join([*good[:2], good[2][:9] + b"\n", *good[3:]]))
    (workspace / "binary.jsonl").write_bytes(b"\xff\xfa")
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert err.strip().endswith(line)


def test_a_line_separator_inside_a_review_does_not_split_the_line(
    run: Run, workspace: Path, client: openai.OpenAI
) -> None:
    lines = [example(index) for index in range(12)]
    lines[4]["messages"][1]["content"] = "two\u2028lines\u0085here"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (workspace / "odd.jsonl").write_text(text + "\n", encoding="utf-8")
    job_id = run("create", "odd.jsonl", "--suffix", "odd", "--n-epochs", "1")[1].strip()
    assert finished(client, job_id).status == "succeeded"
