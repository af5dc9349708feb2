"""The server of the user's account: started where it can run, found where it runs, and the same for every command."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.user_dirs import account_folder, running_server
from reviewtune.errors import ProviderError
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.client import connect
from reviewtune.providers.live import LiveModel
from tests.support.asking import REQUEST
from tests.support.echo_server import echo_server
from tests.support.serving import wait_for

NOWHERE = "http://127.0.0.1:9"  # a proxy that nothing listens at


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A separate account in a folder whose name means something in a URL; its server is stopped at the end."""
    home = tmp_path / "100%25 mine?a=b" / "#1 김철수"
    monkeypatch.setenv("REVIEWTUNE_HOME", str(home))
    monkeypatch.delenv("REVIEWTUNE_API_KEY", raising=False)
    yield home
    if running_server(home / "data"):
        stop(home)


def announced(home: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((home / "data" / "server.json").read_text())
    return content


def stop(home: Path, how: signal.Signals = signal.SIGTERM) -> None:
    server = psutil.Process(int(str(announced(home)["pid"])))
    server.send_signal(how)
    server.wait(30)


def offered(config: Config) -> list[str]:
    with connect(config.provider) as client:
        return [model.id for model in client.models.list()]


def test_a_home_with_any_legal_name(config: Config, home: Path, tmp_path: Path) -> None:
    assert "gemma-3-270m" in offered(config)
    assert {"account.db", "server.json", "server.log", "files"} <= {path.name for path in (home / "data").iterdir()}
    assert [path.name for path in tmp_path.iterdir() if path.name != "answers"] == ["100%25 mine?a=b"]
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_a_home_below_the_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A .env file or a container's settings do not expand it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REVIEWTUNE_HOME", "~/reviews")
    assert account_folder() == tmp_path / "reviews" / "data"


def test_a_key_or_a_locale_of_one_command_does_not_change_the_server_of_all(
    config: Config, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = {"HTTP_PROXY": NOWHERE, "ALL_PROXY": NOWHERE, "OPENAI_BASE_URL": NOWHERE, "OPENAI_ORG_ID": "a\nb"}
    strange |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    strange |= {"WEB_CONCURRENCY": "two", "SSL_CERT_FILE": "/no/such/file", "REVIEWTUNE_API_KEY": "x"}
    with monkeypatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.delenv(name, raising=False)
        for name, value in strange.items():
            patch.setenv(name, value)
        first = offered(config)
        server = announced(home)
    assert offered(config) == first
    assert announced(home) == server
    assert "김철수" in (home / "data" / "server.log").read_text(encoding="utf-8")


def test_a_server_started_with_a_key_needs_it(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, "REVIEWTUNE_API_KEY": "sesame"}, stderr=subprocess.DEVNULL):
        try:
            with pytest.raises(ProviderError, match=r"with a key: set REVIEWTUNE_API_KEY to that key, or stop"):
                offered_soon(config, home)
            monkeypatch.setenv("REVIEWTUNE_API_KEY", "wrong")
            with pytest.raises(ProviderError, match=r"the key in REVIEWTUNE_API_KEY was refused"):
                offered(config)
            monkeypatch.setenv("REVIEWTUNE_API_KEY", "sesame")
            assert "gemma-3-270m" in offered(config)
        finally:
            stop(home)


def test_a_server_that_was_started_in_another_locale_is_used(config: Config, home: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, **ascii_only}, stderr=subprocess.DEVNULL) as server:
        try:
            assert "gemma-3-270m" in offered_soon(config, home)
            assert announced(home)["pid"] == server.pid
        finally:
            stop(home)


def offered_soon(config: Config, home: Path) -> list[str]:
    wait_for(lambda: running_server(home / "data"))
    return offered(config)


def test_the_port_of_a_killed_server_is_taken_by_another_program(config: Config, home: Path) -> None:
    before = offered(config)
    killed = announced(home)
    stop(home, signal.SIGKILL)
    port = int(str(killed["base_url"]).rpartition(":")[2].removesuffix("/v1"))
    with echo_server(port=port) as other:
        assert offered(config) == before
        assert other.requests == []
    assert announced(home)["pid"] != killed["pid"]


@pytest.mark.parametrize("shift", [-86_400.0, 0.0])
def test_the_process_id_of_a_killed_server_is_taken_as_well(config: Config, home: Path, shift: float) -> None:
    """By a program that was started at another time, and by one that answers at the same port but is not a server."""
    (home / "data").mkdir(parents=True)
    with echo_server() as other:
        me = {"pid": os.getpid(), "create_time": psutil.Process().create_time() + shift}
        stale = {**me, "base_url": f"http://127.0.0.1:{other.port}/v1"}
        (home / "data" / "server.json").write_text(json.dumps(stale))
        assert "gemma-3-270m" in offered(config)
        assert {path for path, _ in other.requests} == (set() if shift else {"/healthz"})


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"pid": "x"}', '{"pid": -1, "create_time": 0}'])
def test_a_damaged_server_json_is_not_a_server(home: Path, content: str) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "server.json").write_text(content)
    assert running_server(home / "data") is None


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a virtual environment with all that reviewtune needs, except torch and gguf."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] not in ("torch", "gguf", "pip"):
            (site / entry.name).symlink_to(entry)
    return str(folder / "bin" / "python")


COMMAND = "from reviewtune.commands.main import main; main()"


@pytest.mark.parametrize(
    "program",
    [["-m", "reviewtune.local_server", "--port", "0"], ["-c", COMMAND, "jobs", "list"]],
    ids=["server", "jobs"],
)
def test_no_server_starts_without_the_packages_it_needs(
    without_torch: str, home: Path, project: Path, program: list[str]
) -> None:
    ended = subprocess.run(
        [without_torch, *program],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    expected = f"error: the local provider needs torch, gguf, not installed for {without_torch}: "
    assert line.startswith(f"{expected}run `{without_torch} -m pip install '")
    assert "[local]'`" in line
    assert not (home / "data" / "server.json").exists()
    assert not (home / "data" / "account.db").exists()


def test_a_server_that_ended_is_started_again_at_the_next_look(config: Config, home: Path) -> None:
    """A service looks at its model again and again, so that no request has to wait for a start."""
    live = LiveModel(CallPolicy.of(config.provider, config.evaluation, config.prices), REQUEST)
    live.open()
    first = announced(home)["pid"]
    live.open()
    assert announced(home)["pid"] == first
    stop(home)
    live.open()
    assert announced(home)["pid"] != first
    assert running_server(home / "data")
