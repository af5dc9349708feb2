"""Starting the service: keys, addresses, ports, and no model yet."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewtune.commands import main
from reviewtune.core.config.config import Config
from reviewtune.errors import ConfigError, installing
from tests.support.app_service import KEY, AppProcess, app_folder, app_process
from tests.support.light_client import Without
from tests.support.odd_server import OddServer
from tests.support.serving import wait_for


def test_every_way_not_to_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    public = refused("--host", "0.0.0.0")
    assert "reachable from other machines, but there is no key: set REVIEWTUNE_APP_KEY" in public
    assert "the variable NO_SUCH_KEY is not set" in refused("--api-key-env", "NO_SUCH_KEY")
    assert "--max-batch 64 is above --max-queue 9" in refused("--max-queue", "9")
    monkeypatch.setenv("REVIEWTUNE_APP_KEY", "schlüssel")
    assert "use letters, digits and signs" in refused()
    monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(finder, ["prometheus_client"]) for finder in sys.meta_path])
    assert refused() == f"serve-app needs prometheus_client: run {installing('app')}"


def refused(*options: str) -> str:
    """The message of the error with which the command ends."""
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(main.app, ["serve-app", *options], catch_exceptions=False)
    return str(error.value)


def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "reviewtune", "serve-app", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1 port {port} (Address already in use); ")
    assert done.stderr.count("\n") == 1


def test_a_key_is_asked_for_except_by_the_questions_of_a_load_balancer(folder: Path, labels: tuple[str, ...]) -> None:
    with app_process(folder, key=KEY) as app:
        assert app.classify(labels[0])[0]["label"] == labels[0]
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": ""},
        ):
            app.client.headers.update({"authorization": "", **headers})
            for method, path in (("POST", "/classify"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/x")):
                response = app.client.request(method, path)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert app.client.get("/healthz").json() == {"status": "ok"}
            assert app.client.get("/readyz").status_code == 200
        app.stop()
        assert KEY not in app.log.read_text()


def test_a_web_page_cannot_reach_a_service_without_a_key_by_a_name(app: AppProcess) -> None:
    for name, status in {
        "evil.example": 403,
        "localhost:8080": 200,
        "127.0.0.1": 200,
        "[::1]:1": 200,
        "[": 403,
    }.items():
        assert app.client.get("/metrics", headers={"host": name}).status_code in (status, 400)


def test_without_a_model_it_waits_and_answers_as_soon_as_there_is_one(
    tmp_path: Path, config: Config, provider: OddServer, labels: tuple[str, ...]
) -> None:
    app = AppProcess(tmp_path / "champion", "--refresh", "0.2")
    try:
        assert app.client.get("/healthz").status_code == 200
        wait_for(lambda: "no model can be asked now" in app.client.get("/readyz").text)
        assert "served_model.json" not in app.client.get("/readyz").text
        assert "served_model.json: No such file" in app.events("not ready")[-1]["reason"]
        assert app.client.get("/readyz").status_code == 503
        asked = app.client.post("/classify", json={"text": "late"})
        assert (asked.status_code, asked.headers["retry-after"]) == (503, "1")
        app_folder(tmp_path / "new", config, provider.base_url).rename(tmp_path / "champion")
        app.wait_until_ready()
        assert app.classify(labels[0])[0]["label"] == labels[0]
    finally:
        assert app.stop() == 0


def test_it_needs_no_package_of_the_pipeline(folder: Path) -> None:
    """What a light container has no room for (docs/deploy.md)."""
    heavy = ("dvc", "mlflow", "hydra", "torch", "matplotlib", "ray", "sklearn", "scipy", "pandas", "cleanlab")
    script = f"import sys\nfrom reviewtune.deployment.app import server\nprint({{*sys.modules}} & {{*{heavy}}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
