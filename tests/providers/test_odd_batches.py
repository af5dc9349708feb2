"""Batches as servers send them: empty ids, missing fields and damaged lines stop no run for good."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Message
from reviewtune.errors import ProviderError
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.budget import Budget, scope
from reviewtune.providers.inference import Answers, ask
from tests.support.asking import REQUEST, chats, terms
from tests.support.odd_server import Asked, OddServer, Reply, bodies, completion, damaged, odd_server


class BatchServer:
    """Answers each batch at once. `lines` makes the output from the input's lines, `changes` are of the batch."""

    def __init__(self, server: OddServer) -> None:
        self.server = server
        self.changes: dict[str, Any] = {}
        self.lines: list[bytes] | None = None
        self.input: list[dict[str, Any]] = []
        self.listed: list[dict[str, Any]] = []
        self.batch_reply: Reply | None = None
        server.routes |= {
            "GET /v1/files": lambda _: {"object": "list", "data": []},
            "POST /v1/files": self.upload,
            "GET /v1/files/output/content": lambda _: Reply(b"\n".join(self.output())),
            "GET /v1/files/errors/content": lambda _: Reply(b""),
            "GET /v1/batches": lambda _: {"object": "list", "data": self.listed},
            "POST /v1/batches": self.create,
            "GET /v1/batches/*": lambda _: self.batch_reply or self.batch(),
        }

    def upload(self, asked: Asked) -> object:
        parts = asked.body.split(b"\r\n\r\n")
        content = next(part for part in parts if part.startswith(b'{"custom_id"')).rpartition(b"\r\n--")[0]
        self.input = [json.loads(line) for line in content.split(b"\n") if line.strip()]
        return {"id": "file-1", "object": "file"}

    def create(self, asked: Asked) -> object:
        self.listed = [self.batch() | {"metadata": asked.body["metadata"]}]
        return self.batch()

    def batch(self) -> dict[str, Any]:
        batch = {"id": "batch-1", "object": "batch", "status": "completed", "output_file_id": "output"}
        return batch | {"error_file_id": "", "created_at": 1, "completed_at": 2} | self.changes

    def output(self) -> list[bytes]:
        lines = [json.dumps(line, ensure_ascii=False).encode() + b"\r" for line in map(answered, self.input)]
        return lines if self.lines is None else [*lines[len(self.lines) :], *self.lines]


def answered(line: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": "r", "body": completion("fine\u2028")}
    return {"id": "1", "custom_id": line["custom_id"], "response": response, "error": None}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr("reviewtune.providers.responses.polling.SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr("reviewtune.providers.responses.polling.NO_STATUS_SECONDS", 0.05)
    monkeypatch.setattr("reviewtune.providers.responses.http_client.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("reviewtune.providers.batch.api.ROUNDS", 2)
    with odd_server() as odd:
        yield BatchServer(odd)


def asked(config: Config, server: BatchServer, n: int = 3, **changes: object) -> Answers:
    policy = terms(config, server.server.base_url, mode="batch", max_retries=0, **changes)
    return ask(policy, REQUEST, chats(n), title="x")


@pytest.mark.parametrize("absent", ["", None])
def test_an_empty_id_of_a_file_means_that_there_is_none(
    config: Config, server: BatchServer, absent: str | None
) -> None:
    server.changes = {"error_file_id": absent}
    first = asked(config, server)
    assert [answer.text for answer in first.answers] == ["fine\u2028"] * 3
    assert (first.requests, asked(config, server).cached) == (3, 3)


def test_a_line_that_cannot_be_read_is_one_unusable_answer(config: Config, server: BatchServer) -> None:
    server.lines = [b'{"custom_id": "0-']
    result = asked(config, server)
    assert sum(answer.text == "fine\u2028" for answer in result.answers) == 2
    (odd,) = [answer for answer in result.answers if answer.unreadable]
    assert "came back without an answer 2 times" in str(odd.unreadable)
    server.lines = None
    again = asked(config, server)
    assert (again.cached, again.requests, [answer.unreadable for answer in again.answers]) == (2, 1, [None] * 3)


def test_a_batch_without_a_usable_answer_ends_with_the_reason(config: Config, server: BatchServer) -> None:
    server.lines = [b"", b"", b""]
    with pytest.raises(ProviderError, match="none of 3 lines has a usable answer"):
        asked(config, server)


def test_a_batch_that_never_reports_a_status_ends_with_the_reason(config: Config, server: BatchServer) -> None:
    server.changes = {"status": None, "completed_at": None}
    with pytest.raises(ProviderError, match="batch batch-1: the provider has reported no status"):
        asked(config, server)


@pytest.mark.parametrize("pace", [0.0, 0.2])
def test_a_result_file_that_never_ends_is_one_line(
    config: Config, server: BatchServer, monkeypatch: pytest.MonkeyPatch, pace: float
) -> None:
    """The next run collects the same batch."""
    usual = server.server.routes["GET /v1/files/output/content"]
    monkeypatch.setattr("reviewtune.providers.batch.api.MOST_BODY_BYTES", 2**20)
    monkeypatch.setattr("reviewtune.providers.batch.api.MOST_LINE_BYTES", 2**10)
    server.server.routes["GET /v1/files/output/content"] = lambda _: Reply(
        b"", endless=b" \n" * (1 if pace else 999), pace=pace
    )
    with pytest.raises(ProviderError, match=r"the server sent an answer (of more than|that did not end)"):
        asked(config, server, timeout=0.5)
    server.server.routes["GET /v1/files/output/content"] = usual
    assert asked(config, server).requests == 0


def test_a_server_that_ignores_the_cursor_ends_the_list(config: Config, server: BatchServer) -> None:
    server.listed = [{"id": "b", "object": "batch", "status": "completed"}]
    assert len(asked(config, server).answers) == 3
    assert server.server.count("GET /v1/batches") < 20


PAID: Any = {"priced_as": "gpt-4o-mini-2024-07-18", "budget_usd": 1.0}


def spent() -> float:
    with open_store() as store:
        return Budget(store, 1.0, scope()).spent


@pytest.mark.parametrize(
    ("path", "status"), [("POST /v1/files", 429), ("POST /v1/batches", 400), ("POST /v1/batches", 500)]
)
def test_a_batch_that_was_not_created_costs_nothing(
    config: Config, server: BatchServer, path: str, status: int
) -> None:
    server.server.routes[path] = lambda _: Reply(b'{"error": {"message": "no"}}', status=status)
    before = spent()
    with pytest.raises(ProviderError):
        asked(config, server, **PAID)
    nobody_knows = status == 500
    assert (spent() > before) == nobody_knows


@pytest.mark.parametrize("odd", ["no usage", "garbled", "lost"])
def test_answers_of_unknown_cost_are_booked_at_the_highest(config: Config, server: BatchServer, odd: str) -> None:
    before = spent()
    asked(config, server, **PAID)
    usual, before = spent() - before, spent()
    texts = [[Message(role="user", content=f"{odd} {n}")] for n in range(3)]

    def changed() -> list[bytes]:
        lines = [answered(line) for line in server.input]
        for line in lines:
            line["response"]["body"].pop("usage" if odd == "no usage" else "choices")
        return [] if odd == "lost" else [json.dumps(line).encode() for line in lines]

    server.server.routes["GET /v1/files/output/content"] = lambda _: Reply(b"\n".join(changed()))
    server.changes = {"request_counts": {"total": 3, "completed": 3, "failed": 0}}
    policy = terms(config, server.server.base_url, mode="batch", max_retries=0, **PAID)
    with suppress(ProviderError):  # without one usable answer
        ask(policy, REQUEST, texts, title="x")
    assert spent() - before > usual > 0


def test_a_batch_that_failed_is_no_obstacle_to_a_new_try(config: Config, server: BatchServer) -> None:
    """Interrupted while it was sent again, with a note that names no batch yet."""
    server.changes = {"status": "failed", "output_file_id": None}
    with pytest.raises(ProviderError, match="failed: no reason was given"):
        asked(config, server)
    usual = server.server.routes["POST /v1/files"]
    server.server.routes["POST /v1/files"] = lambda _: Reply(b'{"error": {"message": "cut"}}', status=400)
    with pytest.raises(ProviderError, match="cut"):
        asked(config, server)
    server.server.routes["POST /v1/files"] = usual
    server.changes = {}
    server.listed[0] |= {"status": "failed"}
    assert [answer.text for answer in asked(config, server).answers] == ["fine\u2028"] * 3


LINE = answered({"custom_id": "0-x"})
PROPERTIES = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PROPERTIES
@given(line=damaged(LINE).map(json.dumps) | st.sampled_from(["", "[" * 2000, "null", "\x00", '{"custom_id": {}}']))
def test_no_line_of_a_batch_stops_the_others(config: Config, server: BatchServer, line: str) -> None:
    server.lines = [line.encode()]
    result = asked(config, server)
    assert sum(answer.text == "fine\u2028" for answer in result.answers) >= 2
    with open_store() as store:
        store.prune()


@PROPERTIES
@given(body=bodies(LINE["response"]["body"]))
def test_no_answer_in_a_batch_stops_the_others(config: Config, server: BatchServer, body: Reply) -> None:
    def reply(_: Asked) -> Reply:
        first, *others = (json.dumps(answered(line)).encode() for line in server.input)
        good = json.dumps(completion("fine\u2028")).encode()
        assert good in first
        return Reply(b"\n".join([first.replace(good, body.body.replace(b"\n", b" ")), *others]))

    server.server.routes["GET /v1/files/output/content"] = reply
    result = asked(config, server)
    assert sum(answer.text == "fine\u2028" for answer in result.answers) >= 2
    with open_store() as store:
        kept = sum(share.answers for share in store.shares())
        store.prune()
    assert kept == sum(answer.unreadable is None for answer in result.answers)


BATCH = {"id": "batch-1", "status": "completed", "output_file_id": "output", "error_file_id": "", "created_at": 1}


@PROPERTIES
@given(reply=bodies(BATCH | {"errors": None, "request_counts": {"total": 3, "completed": 3, "failed": 0}}))
def test_no_batch_object_ends_in_a_traceback(config: Config, server: BatchServer, reply: Reply) -> None:
    """A run that ends with a message is continued by the next one, at which the server works again."""
    server.batch_reply, server.listed = reply, []
    try:
        result = asked(config, server)
    except ProviderError as error:
        server.batch_reply = None
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        result = asked(config, server)
    assert len(result.answers) == 3
    with open_store() as store:
        store.prune()
        with store.writing() as connection:
            connection.execute("DELETE FROM batches")
