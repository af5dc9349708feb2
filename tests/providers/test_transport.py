"""Requests are those that the openai client sends, errors are its own, and nothing is sent twice."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.providers.client import asynchronous, connect
from reviewtune.providers.transport import completions
from tests.support.http_servers import serving

Seen = tuple[str, str, dict[str, str], Any]  # method, path, headers, body


class Recorder(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, (status, body), and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = []
        self.seen: list[Seen] = []
        self.delay = 0.0  # seconds before each answer

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
        time.sleep(self.server.delay)
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
    server = Recorder()
    with serving(server):
        yield server


@pytest.fixture(params=["compatible", "azure"])
def provider(
    request: pytest.FixtureRequest, config: Config, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> ProviderConfig:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    address = recorder.address + ("/v1" if request.param == "compatible" else "")
    changes = {"kind": request.param, "base_url": address, "api_key_env": "MY_KEY", "timeout": 9.0}
    return config.provider.model_copy(update=changes)


def body_of(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 9, "seed": 1}


def asked(provider: ProviderConfig, *texts: str) -> list[bytes | Exception]:
    """One after the other over one connection: the answer's body, or the error."""

    async def ask() -> list[bytes | Exception]:
        outcomes: list[bytes | Exception] = []
        async with completions(client, provider) as asking:
            for text in texts:
                try:
                    outcomes.append(await asking.ask(body_of(text)))
                except openai.APIError as error:
                    outcomes.append(error)
        return outcomes

    with connect(provider) as client:
        return asyncio.run(ask())


def asked_plainly(provider: ProviderConfig, text: str) -> openai.APIStatusError | None:
    """The same by the openai client's typed call and its default transport; the error, if any."""

    async def ask() -> openai.APIStatusError | None:
        async with asynchronous(client, provider, openai.DefaultAsyncHttpxClient()) as plain:
            try:
                await plain.chat.completions.create(**body_of(text))
            except openai.APIStatusError as error:
                return error
        return None

    with connect(provider) as client:
        return asyncio.run(ask())


def of_the_client(seen: Seen) -> Seen:
    """Without the headers that the transport adds, and the note that the caller wants the raw response."""
    method, path, headers, body = seen
    others = {"accept-encoding", "connection", "x-stainless-raw-response"}
    return method, path, {name: value for name, value in headers.items() if name not in others}, body


def test_every_request_is_the_openai_clients(provider: ProviderConfig, recorder: Recorder) -> None:
    recorder.answers = [(200, '{"n": 1}'), (200, '{"n": 2}'), (200, "{}"), (200, "{}")]
    texts = ("first", "zwölf 안녕 😀")
    assert asked(provider, *texts) == [b'{"n": 1}', b'{"n": 2}']
    for text in texts:
        asked_plainly(provider, text)
    ours, plain = recorder.seen[:2], recorder.seen[2:]
    assert [of_the_client(seen) for seen in ours] == [of_the_client(seen) for seen in plain]
    assert [body for *_, body in ours] == [body_of(text) for text in texts]
    assert all("sk-mine" in str(headers) for _, _, headers, _ in ours)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("body", ['{"error": {"message": "no", "code": "x", "type": "t", "param": "p"}}', "<html>", ""])
def test_errors_are_the_openai_clients(provider: ProviderConfig, recorder: Recorder, status: int, body: str) -> None:
    recorder.answers = [(status, body), (200, "{}"), (status, body), (status, body)]
    first, _, later = asked(provider, "a", "b", "c")
    plain = asked_plainly(provider, "a")
    assert plain is not None
    for error in (first, later):
        assert isinstance(error, openai.APIStatusError)
        assert type(error) is type(plain)
        assert (error.message, error.body, error.code) == (plain.message, plain.body, plain.code)
        assert error.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [408, 409, 429, 500])
def test_the_client_does_not_retry_by_itself(provider: ProviderConfig, recorder: Recorder, status: int) -> None:
    assert provider.max_retries > 0  # these are for the caller
    recorder.answers = [(status, "{}"), (200, "{}")]
    (outcome,) = asked(provider, "a")
    assert isinstance(outcome, openai.APIStatusError)
    assert len(recorder.seen) == 1


def test_a_server_that_goes_away_is_a_connection_error(provider: ProviderConfig, recorder: Recorder) -> None:
    recorder.answers = [(200, "{}")]  # the second request ends its thread without an answer
    recorder.handle_error = lambda *_: None  # type: ignore[method-assign]
    _, lost = asked(provider, "a", "b")
    assert isinstance(lost, openai.APIConnectionError)
    assert not isinstance(lost, openai.APITimeoutError)


def test_a_port_that_nobody_listens_on_is_a_connection_error(provider: ProviderConfig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        (refused,) = asked(provider.model_copy(update={"base_url": closed}), "a")
    assert isinstance(refused, openai.APIConnectionError)
    assert not isinstance(refused, openai.APITimeoutError)


def test_a_server_that_does_not_answer_in_time_is_a_time_out(provider: ProviderConfig, recorder: Recorder) -> None:
    recorder.answers, recorder.delay = [(200, "{}")], 1.0
    recorder.handle_error = lambda *_: None  # type: ignore[method-assign]
    (late,) = asked(provider.model_copy(update={"timeout": 0.2}), "a")
    assert isinstance(late, openai.APITimeoutError)
