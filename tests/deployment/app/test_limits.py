"""Too many reviews, slow answers, clients that hang up, and the end of the process: no place and no request is lost."""

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.deployment.app.review_queue import LONGEST_WAIT, QueueFullError, ReviewQueue
from tests.support.app_service import AppProcess, GatedProvider, app_folder, app_process
from tests.support.odd_server import OddServer
from tests.support.serving import wait_for

Gated = tuple[GatedProvider, OddServer]


@given(st.lists(st.integers(1, 12), max_size=30))
def test_never_more_reviews_than_places_and_all_places_come_back(sizes: list[int]) -> None:
    queue = ReviewQueue(10)
    held = []
    for size in sizes:
        place = queue.places(size)
        if queue.reviews + size > 10:
            with pytest.raises(QueueFullError) as full:
                place.__enter__()
            assert 1 <= full.value.retry_after <= LONGEST_WAIT
        else:
            place.__enter__()
            held.append(place)
        assert queue.reviews <= 10
    for place in held:
        place.__exit__(None, None, None)
    assert queue.reviews == 0


def folder_of(tmp_path: Path, config: Config, server: OddServer, **provider: object) -> Path:
    return app_folder(tmp_path / "model", config, server.base_url, **provider)


def in_queue(app: AppProcess) -> Callable[[int], bool]:
    return lambda reviews: app.samples()["reviewtune_queue_reviews", ()] == reviews


def test_a_full_queue_refuses_and_clients_that_hang_up_free_their_places(
    tmp_path: Path, config: Config, gated: Gated, labels: tuple[str, ...]
) -> None:
    provider, server = gated
    with app_process(folder_of(tmp_path, config, server), "--max-queue", "4", "--max-batch", "4") as app:
        waiting = [_send(app, f"held {labels[0]}") for _ in range(4)]
        wait_for(lambda: in_queue(app)(4))
        refused = app.client.post("/classify", json={"text": "one more"})
        assert (refused.status_code, refused.json()["title"]) == (429, "Too Many Requests")
        assert 1 <= int(refused.headers["retry-after"]) <= LONGEST_WAIT
        assert app.samples()["reviewtune_rejected_total", ()] == 1
        for connection in waiting:
            connection.close()
        wait_for(lambda: in_queue(app)(0))
        assert [line["status"] for line in app.events("request") if line["path"] == "/classify"] == [429, *[499] * 4]
        provider.gate.set()
        assert [result["label"] for result in app.classify(*[labels[1]] * 4)] == [labels[1]] * 4


def _send(app: AppProcess, text: str) -> socket.socket:
    """A connection that has asked and does not wait for the answer."""
    host, port = app.address.removeprefix("http://").split(":")
    body = json.dumps({"text": text}).encode()
    connection = socket.create_connection((host, int(port)))
    head = f"POST /classify HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


def test_a_provider_without_an_answer_costs_the_labels_of_one_review_or_of_many(
    tmp_path: Path, config: Config, gated: Gated, labels: tuple[str, ...]
) -> None:
    provider, server = gated
    with app_process(folder_of(tmp_path, config, server, concurrency=1), "--timeout", "2") as app:
        (late,) = app.classify("held")
        assert late["label"] is None
        assert "no answer within 0.6 s" in late["why"]
        assert [result["label"] for result in app.classify(*["held"] * 8)] == [None] * 8
        assert in_queue(app)(0)
        provider.gate.set()
        assert app.classify(labels[0])[0]["label"] == labels[0]


def test_it_is_not_ready_while_the_provider_is_gone_and_ready_when_it_is_back(
    tmp_path: Path, config: Config, gated: Gated, labels: tuple[str, ...]
) -> None:
    _, server = gated
    with app_process(folder_of(tmp_path, config, server), "--timeout", "3") as app:
        for _ in range(3):
            assert app.classify("outage")[0]["label"] is None
        refused = wait_for(lambda: (found := app.client.get("/readyz")).status_code == 503 and found)
        assert refused.json()["detail"] == "Not ready: no model can be asked now"
        assert app.client.get("/healthz").status_code == 200
        assert app.classify(labels[0])[0]["label"] == labels[0], "it is asked again, as no other model can"
        wait_for(lambda: app.client.get("/readyz").status_code == 200)


def test_sigterm_finishes_what_runs_and_ends_with_status_0(
    tmp_path: Path, config: Config, gated: Gated, labels: tuple[str, ...]
) -> None:
    provider, server = gated
    with app_process(folder_of(tmp_path, config, server)) as app, ThreadPoolExecutor(8) as pool:
        running = [pool.submit(_ask_alone, app, f"held {label}") for label in labels[:8]]
        wait_for(lambda: provider.held >= 8)
        threading.Timer(1.0, provider.gate.set).start()
        assert app.stop() == 0
        assert [answer.result()["results"][0]["label"] for answer in running] == list(labels[:8])
        assert _lines(app)[-1]["event"] == "ended"
        with pytest.raises(httpx2.ConnectError):
            _ask_alone(app, "too late")


def _lines(app: AppProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in app.log.read_text().splitlines()]


def test_what_does_not_end_is_cut_off_at_the_limit(tmp_path: Path, config: Config, gated: Gated) -> None:
    provider, server = gated
    folder = folder_of(tmp_path, config, server, concurrency=1)
    with app_process(folder, "--timeout", "2") as app, ThreadPoolExecutor(1) as pool:
        running = pool.submit(_ask_alone, app, *["held"] * 8)
        wait_for(lambda: provider.held)
        assert app.stop() == 0
        assert [result["label"] for result in running.result()["results"]] == [None] * 8


def _ask_alone(app: AppProcess, *texts: str) -> Any:
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{app.address}/classify", json={"texts": texts}).json()
