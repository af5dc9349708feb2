"""The server process: command line, API key, address, one server per folder, clean end."""

import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import openai
import psutil
import pytest

from reviewtune.core.user_dirs import account_folder, cache_folder, start_of
from tests.support.serving import ServerProcess, example, running, upload, wait_for

# Ids follow from content, on every machine; they may change only with a new release, as they key users' caches.
JOB_OF_ONE_EXAMPLE = ("ftjob-e4809d1e0ca1e49794698909", 1307883965)


def start(*options: str) -> subprocess.CompletedProcess[str]:
    """Start a server that must fail, and wait for its end."""
    command = [sys.executable, "-m", "reviewtune.local_server", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def one_line(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_announces_itself(server: ServerProcess, base: str) -> None:
    announced = server.announced
    assert set(announced) == {"pid", "create_time", "base_url", "started", "base_models"}
    assert start_of(psutil.Process(announced["pid"])) == pytest.approx(announced["create_time"], abs=1)
    assert abs(announced["started"] - time.time()) < 3600
    assert announced["base_models"] == ["gemma-3-270m", "smollm2-135m-instruct", "qwen2.5-coder-1.5b-instruct", base]
    health = httpx2.get(server.base_url.removesuffix("/v1") + "/healthz").json()
    ours = {"data_dir": str(server.data_dir), "pid": server.process.pid}
    assert health == {"status": "ok", "version": health["version"], **ours}


def test_help_explains_the_options() -> None:
    ended = start("--help")
    assert ended.returncode == 0
    for word in ("OPENAI_BASE_URL", "--idle-exit", "REVIEWTUNE_API_KEY", "server.json"):
        assert word in ended.stdout


def test_one_server_per_folder(server: ServerProcess) -> None:
    line = one_line(start("--port", "0", "--data-dir", str(server.data_dir)))
    assert server.base_url in line


def test_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = one_line(start("--port", port, "--data-dir", str(tmp_path / "data")))
    assert port in line
    assert "--port" in line
    assert not (tmp_path / "data" / "server.json").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org"])
def test_a_reachable_address_needs_a_key(tmp_path: Path, host: str) -> None:
    line = one_line(start("--host", host, "--port", "0", "--data-dir", str(tmp_path / "data")))
    assert "REVIEWTUNE_API_KEY" in line


def test_a_key_that_no_request_can_carry_is_refused(tmp_path: Path) -> None:
    for key in ("열려라", "open\x07sesame"):
        line = one_line(start("--port", "0", "--data-dir", str(tmp_path / "data"), "--api-key", key))
        assert "characters that a request cannot carry" in line
        assert key not in line


@pytest.mark.parametrize("model", ["ft:nobody", "gpt-4o", "other"])
def test_a_name_for_a_model_that_is_not_there_is_refused(tmp_path: Path, model: str) -> None:
    """Before the server answers anything. A name is not given to a name either."""
    names = ("--alias", f"mine={model}", "--alias", "other=gemma-3-270m")
    line = one_line(start("--port", "0", "--data-dir", str(tmp_path / "data"), *names))
    assert f"--alias mine={model}: there is no model '{model}'" in line
    assert "gemma-3-270m" in line
    assert "--base-model" in line
    assert not (tmp_path / "data" / "server.json").exists()


def test_the_key_is_required_and_never_logged(tmp_path: Path) -> None:
    with running(tmp_path / "data", api_key="sesame-77\n") as server:
        server.client.api_key = "sesame-77"
        assert list(server.client.models.list())
        root = server.base_url.removesuffix("/v1")
        assert httpx2.get(f"{root}/healthz").json() == {"status": "ok"}

        missing = httpx2.get(f"{server.base_url}/models")
        assert (missing.status_code, missing.json()["error"]["code"]) == (401, None)
        assert missing.headers["x-request-id"]
        assert httpx2.get(f"{server.base_url}/nothing").status_code == 401
        wrong = openai.OpenAI(base_url=server.base_url, api_key="sesame-78", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            wrong.models.list()
        assert caught.value.code == "invalid_api_key"
        assert "sesame" not in str(caught.value)
        upload(server.client, [example(0)])
        with pytest.raises(openai.NotFoundError):
            server.client.chat.completions.create(model="x", messages=[{"role": "user", "content": "secret review"}])
        assert "sesame" not in " ".join(psutil.Process(server.process.pid).cmdline())
    log = server.log.read_text()
    assert log.count('path="/v1/chat/completions" status=404') == 1
    assert not [word for word in ("sesame", "secret", "billing") if word in log]


def test_ends_cleanly_and_keeps_the_account(tmp_path: Path) -> None:
    """Started on the folder of a killed server, stopped, and started again."""
    data = tmp_path / "data"
    data.mkdir()
    stale = {"pid": 1, "create_time": 1_700_000_000, "base_url": "http://127.0.0.1:1/v1", "started": 0}
    (data / "server.json").write_text(json.dumps(stale))
    with running(data) as server:
        file = upload(server.client, [example(0)])
        job = server.client.fine_tuning.jobs.create(model="gemma-3-270m", training_file=file.id)
        wait_for(lambda: server.client.fine_tuning.jobs.retrieve(job.id).status == "failed")
        before = server.client.fine_tuning.jobs.retrieve(job.id)
        assert server.stop() == 0
        assert not (data / "server.json").exists()
    with running(data) as server:
        assert [listed_file.id for listed_file in server.client.files.list()] == [file.id]
        assert server.client.fine_tuning.jobs.retrieve(job.id) == before
        assert "traceback" not in server.log.read_text().lower()
    assert (job.id, job.seed) == JOB_OF_ONE_EXAMPLE


def test_idle_server_ends_itself(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--idle-exit", "1") as server:
        for _ in range(4):  # each request delays the end
            time.sleep(0.5)
            server.client.models.list()
        assert server.process.wait(20) == 0
        assert not (tmp_path / "data" / "server.json").exists()


def test_a_connection_stays_open_longer_than_clients_keep_it(server: ServerProcess) -> None:
    """httpx uses an idle one for 5 s. If the server closed it just then, that request would be lost."""
    connection = http.client.HTTPConnection(server.base_url.split("/")[2], timeout=30)
    for pause in (0, 6):
        time.sleep(pause)
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        assert connection.sock is not None  # http.client drops it if the answer says that it ends
    connection.close()


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REVIEWTUNE_HOME", str(tmp_path))
    assert (account_folder(), cache_folder()) == (tmp_path / "data", tmp_path / "cache")
    monkeypatch.delenv("REVIEWTUNE_HOME")
    assert tmp_path not in account_folder().parents
