"""An MLflow server on this machine is reached without the proxy of the environment."""

import pytest

from reviewtune.core.config.config import TrackingConfig
from reviewtune.tracking.store import open_store
from tests.support.echo_server import echo_server

EXPERIMENT = {"experiment_id": "7", "name": "x", "lifecycle_stage": "active", "artifact_location": "", "tags": []}


def test_no_proxy_for_an_mlflow_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with echo_server({"experiment": EXPERIMENT}) as server:
        store = open_store(TrackingConfig(experiment="x", uri=f"http://127.0.0.1:{server.port}"))
        assert store.experiment == "7"
        assert server.requests
