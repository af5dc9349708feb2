"""Single requests to any server end, with a sound object or with one line."""

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import Silent
from reviewtune.errors import ProviderError
from reviewtune.providers.client import connect
from reviewtune.providers.responses import http_client
from tests.support.odd_server import Asked, OddServer, Reply, odd_server

FILES = "GET /v1/files"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddServer]:
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.001)
    with odd_server() as server:
        yield server


@pytest.fixture
def client(config: Config, server: OddServer) -> Iterator[openai.OpenAI]:
    changes = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None, "timeout": 0.3, "max_retries": 2}
    with connect(config.provider.model_copy(update=changes)) as client:
        yield client


def refused(config: Config, server: OddServer, reply: Reply) -> str:
    """The message about a reply to a request for files."""
    server.routes[FILES] = lambda _: reply
    changes = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None, "timeout": 0.3, "max_retries": 2}
    with pytest.raises(ProviderError) as caught, connect(config.provider.model_copy(update=changes)) as client:
        list(client.files.list())
    return str(caught.value)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"", endless=b" " * 65536), "the server sent an answer of more than 1 MiB"),
        (Reply(b"", endless=b" ", pace=0.05), "the server sent an answer that did not end within"),
        (Reply(b"<html>"), "the server sent what is not valid JSON: '<html>'"),
        (Reply(b""), "the server sent what is not valid JSON: an empty body"),
        (Reply(b'{"error": "overloaded"}'), "the server sent overloaded"),
        (Reply(b'"files"'), "the server sent no list of files: files"),
        (Reply(b'{"data": 3}'), "the server sent no list of files"),
        (Reply(b"[" * 100_000), "the server sent JSON that is nested too deeply"),
    ],
)
def test_an_unreadable_answer_is_one_line(
    config: Config, server: OddServer, monkeypatch: pytest.MonkeyPatch, reply: Reply, reason: str
) -> None:
    monkeypatch.setattr(http_client.BodyLimit.__init__, "__defaults__", (2**20,))
    began = time.monotonic()
    message = refused(config, server, reply)
    assert reason in message
    assert message.endswith("is provider.base_url right? If it is, run the same command again")
    assert time.monotonic() - began < 10


class Messages(Silent):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0, "answers HTTP 503; trying up to 1 more times"),
        (1, "did not answer within 0.3 s; trying 1 more time, for up to"),
    ],
)
def test_waiting_is_announced(config: Config, server: OddServer, seconds: float, message: str) -> None:
    """The first request gets no answer in time, or a refusal that may pass."""

    def reply(_: Asked) -> Reply:
        if server.count(FILES) > 1:
            return Reply(b'{"data": [{"id": "f"}], "has_more": false}')
        time.sleep(seconds)
        return Reply(b"", status=503)

    server.routes[FILES] = reply
    messages = Messages()
    changes = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None, "timeout": 0.3, "max_retries": 1}
    with connect(config.provider.model_copy(update=changes), progress=messages) as client:
        assert [file.id for file in client.files.list()] == ["f"]
    (text,) = messages.texts
    assert f"{server.base_url}/files {message}" in text


@pytest.mark.parametrize("headers", [{"content-encoding": "gzip"}, {"content-length": "99"}])
def test_a_body_that_breaks_off_is_one_line(config: Config, server: OddServer, headers: dict[str, str]) -> None:
    message = refused(config, server, Reply(b'{"data": []}', headers={**headers, "connection": "close"}))
    assert "the server sent an answer that broke off; " in message


def test_a_garbled_answer_is_asked_for_again(client: openai.OpenAI, server: OddServer) -> None:
    replies = [Reply(b'{"data": [{"i'), Reply(b'{"data": [{"id": "f"}], "has_more": false}')]
    server.routes[FILES] = lambda _: replies.pop(0)
    assert [file.id for file in client.files.list()] == ["f"]


@pytest.mark.parametrize("more", [True, None, "yes"])
def test_a_list_whose_server_ignores_the_cursor_ends(client: openai.OpenAI, server: OddServer, more: object) -> None:
    server.routes[FILES] = lambda _: {"data": [{"id": "a"}, {"id": "b"}], "has_more": more}
    assert [file.id for file in client.files.list()] == ["a", "b"]
    assert server.count(FILES) == 2


FIELDS: list[tuple[dict[str, Any], str, object]] = [
    ({"bytes": "12"}, "bytes", 12),
    ({"bytes": 12.0}, "bytes", 12),
    ({"bytes": "many"}, "bytes", 0),
    ({}, "created_at", 0),
    ({"created_at": 1e300}, "created_at", 0),
    ({"status": None}, "status", ""),
    ({"status": "pondering"}, "status", "pondering"),
    ({"expires_at": []}, "expires_at", None),
    ({"filename": 3}, "filename", "3"),
    ({"filename": {}}, "filename", ""),
    ({"more": 1}, "more", 1),
]


@pytest.mark.parametrize(("fields", "name", "value"), FIELDS)
def test_each_field_has_a_value_of_its_type(
    client: openai.OpenAI, server: OddServer, fields: dict[str, Any], name: str, value: object
) -> None:
    server.routes["GET /v1/files/f"] = lambda _: {"id": "f"} | fields
    assert getattr(client.files.retrieve("f"), name) == value


def test_an_object_that_is_whole_is_not_changed(client: openai.OpenAI, server: OddServer) -> None:
    whole: dict[str, Any] = {
        "id": "b",
        "object": "batch",
        "status": "completed",
        "metadata": {"a": "b"},
        "errors": None,
    }
    whole |= {"request_counts": {"total": 1, "completed": 1, "failed": 0}, "error_file_id": "e"}
    server.routes["GET /v1/batches/b"] = lambda _: whole
    sent = json.loads(client.batches.retrieve("b").model_dump_json(warnings=False))
    assert {name: sent[name] for name in whole} == whole


def test_the_content_of_a_file_is_not_read_as_json(client: openai.OpenAI, server: OddServer) -> None:
    server.routes["GET /v1/files/f/content"] = lambda _: Reply(b"step\n1\n")
    assert client.files.content("f").content == b"step\n1\n"


def test_an_empty_answer_to_a_deletion_is_fine(client: openai.OpenAI, server: OddServer) -> None:
    server.routes["DELETE /v1/files/f"] = lambda _: Reply(b"{}")
    client.files.delete("f")
