"""Connections that send nothing, or a part of a head, are closed; those that wait for an answer or rest are not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from reviewtune.deployment.app import connection as of_service
from reviewtune.local_server.protocol import connection as of_provider

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
PATIENCE, SLOW = 0.4, 1.2


async def answers_slowly(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(SLOW if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture(params=[of_service, of_provider], ids=["service", "provider"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(request.param, "PATIENCE", PATIENCE)
    config = uvicorn.Config(
        answers_slowly, http=request.param.Connection, lifespan="off", timeout_keep_alive=3, log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def seconds_until_closed(sock: socket.socket) -> float:
    start = time.monotonic()
    sock.settimeout(10)
    while sock.recv(1000):
        pass
    return time.monotonic() - start


def answer(sock: socket.socket) -> bytes:
    sock.settimeout(10)
    return sock.recv(1000)


@pytest.mark.parametrize("sent", [b"", REQUEST[:20]])
def test_a_connection_without_a_head_is_closed(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(sent)
        assert seconds_until_closed(sock) < 2


def test_a_second_head_that_is_not_complete_closes_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(REQUEST)
        assert b"204" in answer(sock)
        sock.sendall(REQUEST[:20])
        assert seconds_until_closed(sock) < 2


def test_slow_answers_and_pauses_between_requests_are_no_silence(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(REQUEST.replace(b"GET /", b"GET /slow"))
        assert b"204" in answer(sock)
        time.sleep(3 * PATIENCE)
        sock.sendall(REQUEST)
        assert b"204" in answer(sock)
