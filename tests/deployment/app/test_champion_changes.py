"""A promotion and a rollback in a real registry while requests come: none is lost, each gets one of the two models."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from reviewtune.core.config.loading import load_params
from reviewtune.tracking import aliases
from tests.support.app_service import AppProcess, app_process
from tests.support.odd_server import CHAT, Asked, OddServer, completion, odd_server
from tests.support.projects import write_params
from tests.support.registry import promote_served
from tests.support.served import served_folder
from tests.support.serving import wait_for

LABEL_OF = {"ft:one": "delivery_delay", "ft:two": "damaged_item"}
CLIENTS = 8


@pytest.fixture
def provider() -> Iterator[OddServer]:
    def answer(asked: Asked) -> object:
        return completion(f'{{"label": "{LABEL_OF[asked.body["model"]]}"}}')

    with odd_server({CHAT: answer}) as server:
        yield server


@pytest.fixture
def shop(project: Path, provider: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder without runs."""
    root = tmp_path / "shop"
    root.mkdir()
    here = {"kind": "compatible", "base_url": provider.base_url, "api_key_env": None, "priced_as": None}
    write_params(root, project, **here)
    (root / "dvc.yaml").touch()
    monkeypatch.chdir(root)
    return root


def promoted(shop: Path, model: str) -> int:
    """Register a model and make it the champion; its version."""
    config = load_params(shop / "params.yaml")
    folder = served_folder(shop.parent / model[3:], config, model, calibration=None, threshold=None)
    return promote_served(config, folder, shop.parent)


def test_no_request_is_lost_during_promotion_and_rollback(shop: Path) -> None:
    config = load_params(shop / "params.yaml")
    first = promoted(shop, "ft:one")
    with app_process(shop, "--refresh", "0.2") as app, _clients(app) as answers:
        assert app.classify("late")[0]["version"] == str(first)
        second = promoted(shop, "ft:two")
        wait_for(lambda: app.classify("late")[0]["version"] == str(second))
        wait_for(lambda: dict(_model(app))["model"] == "ft:two")
        aliases.roll_back(config.tracking, config.registered_name, reason="a test", expected=second)
        wait_for(lambda: app.classify("late")[0]["version"] == str(first))
        wait_for(lambda: len(answers()) >= 200)
    seen = answers()
    assert {(answer["model"], answer["label"]) for answer in seen} == set(LABEL_OF.items())
    assert {answer["version"] for answer in seen} == {str(first), str(second)}


def test_it_stays_ready_while_the_registry_is_gone(shop: Path) -> None:
    """The last known champion answers, also after a restart."""
    first = promoted(shop, "ft:one")
    with app_process(shop, "--refresh", "0.2") as app:
        assert app.classify("late")[0]["version"] == str(first)
        for part in (shop / "mlruns").glob("mlflow.db*"):
            part.write_text("this is no database " * 1000)
        time.sleep(1)  # several looks at a registry that is gone
        assert app.client.get("/readyz").json()["version"] == str(first)
        assert app.classify("late")[0]["version"] == str(first)
    with app_process(shop, "--refresh", "0.2") as app:
        assert app.client.get("/readyz").json()["version"] == str(first)
        assert app.classify("late")[0]["version"] == str(first)


def _model(app: AppProcess) -> tuple[tuple[str, str], ...]:
    (found,) = [labels for name, labels in app.samples() if name == "reviewtune_model_info"]
    return found


@contextmanager
def _clients(app: AppProcess) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Clients that ask one after the other until the end of the block; every response must be an answer."""
    answers: list[dict[str, Any]] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx2.Client(trust_env=False, timeout=30) as client:
            while not ended.is_set():
                response = client.post(f"{app.address}/classify", json={"text": "late"})
                assert response.status_code == 200, response.text
                answers.extend(response.json()["results"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            yield lambda: answers
        finally:
            ended.set()
        for client in running:
            client.result()
