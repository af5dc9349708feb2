"""The second request is the openai client's first but for its body, and its errors are the openai client's own."""

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import openai
import pytest

from reviewtune.core.config import Config, ProviderConfig
from reviewtune.providers.client import connect
from reviewtune.providers.transport import completions

Seen = tuple[str, str, dict[str, str], Any]  # method, path, headers, body


class Recorder(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, (status, body), and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = []
        self.seen: list[Seen] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.command, self.path, headers, body))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.send_header("retry-after", "7")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=["compatible", "azure"])
def provider(
    request: pytest.FixtureRequest, config: Config, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> ProviderConfig:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    address = recorder.address + ("/v1" if request.param == "compatible" else "")
    changes = {"kind": request.param, "base_url": address, "api_key_env": "MY_KEY", "timeout": 9.0}
    return config.provider.model_copy(update=changes)


def asked(provider: ProviderConfig, *texts: str) -> list[bytes | Exception]:
    """One after the other over one connection: the answer's body, or the error."""

    async def ask() -> list[bytes | Exception]:
        found: list[bytes | Exception] = []
        async with completions(client, provider) as asking:
            for text in texts:
                try:
                    found.append(await asking.ask({"model": "m", "messages": [{"role": "user", "content": text}]}))
                except openai.APIError as error:
                    found.append(error)
        return found

    with connect(provider) as client:
        return asyncio.run(ask())


def test_all_requests_are_like_the_first(provider: ProviderConfig, recorder: Recorder) -> None:
    recorder.answers = [(200, '{"n": 1}'), (200, '{"n": 2}'), (200, '{"n": 3}')]
    assert asked(provider, "first", "zwölf \ud800 안녕", "third") == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']
    bodies = [body for *_, body in recorder.seen]
    assert [body.pop("messages")[0]["content"] for body in bodies] == ["first", "zwölf \ud800 안녕", "third"]
    for _, _, headers, _ in recorder.seen:
        del headers["content-length"]
    assert recorder.seen[0] == recorder.seen[1] == recorder.seen[2]
    assert "sk-mine" in str(recorder.seen[2])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("body", ['{"error": {"message": "no", "code": "x", "type": "t", "param": "p"}}', "<html>", ""])
def test_errors_are_the_openai_clients(provider: ProviderConfig, recorder: Recorder, status: int, body: str) -> None:
    recorder.answers = [(status, body), (200, "{}"), (status, body)]
    first, _, later = asked(provider, "a", "b", "c")
    assert isinstance(first, openai.APIStatusError)
    assert isinstance(later, openai.APIStatusError)
    assert type(later) is type(first)
    assert (later.message, later.body, later.code) == (first.message, first.body, first.code)
    assert later.response.headers["retry-after"] == "7"


def test_a_server_that_goes_away_is_a_connection_error(provider: ProviderConfig, recorder: Recorder) -> None:
    recorder.answers = [(200, "{}")]  # the second request ends its thread without an answer
    recorder.handle_error = lambda *_: None  # type: ignore[method-assign]
    _, lost = asked(provider, "a", "b")
    assert isinstance(lost, openai.APIConnectionError)
    assert not isinstance(lost, openai.APITimeoutError)
