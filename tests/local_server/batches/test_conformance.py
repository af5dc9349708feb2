"""Batches: a file of requests in, a file of answers and a file of errors out."""

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai.types import Batch
from openai.types.chat import ChatCompletion
from tokenizers import Tokenizer

from tests.support.serving import ServerProcess, upload, wait_for
from tests.support.wire import checked, error_of, listed

URL: Final = "/v1/chat/completions"


def line(name: str, model: str, **body: Any) -> dict[str, Any]:
    asked = {"model": model, "messages": [{"role": "user", "content": f"case {name}"}], "max_completion_tokens": 4}
    return {"custom_id": name, "method": "POST", "url": URL, "body": asked | body}


def run(client: openai.OpenAI, lines: list[Any], **options: Any) -> Batch:
    file = upload(client, lines, "batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h", **options)
    assert (batch.status, batch.expires_at) == ("validating", batch.created_at + 24 * 3600)

    def ended() -> Batch | None:
        current = client.batches.retrieve(batch.id)
        return current if current.status in ("completed", "failed", "cancelled", "expired") else None

    return wait_for(ended)


def lines_of(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    parsed = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    assert len({entry["custom_id"] for entry in parsed}) == len(parsed)
    return {entry["custom_id"]: entry for entry in parsed}


def test_good_and_bad_lines(client: openai.OpenAI, base: str) -> None:
    good = [line(f"good-{n}", base, temperature=0) for n in range(40)]
    bad = [line("hot", base, temperature=9), line("odd", base, colour="red"), line("stream", base, stream=True)]
    batch = run(client, [*good[:20], *bad, *good[20:]], metadata={"key": "1"})
    checked(Batch, client.batches.with_raw_response.retrieve(batch.id).text)
    assert re.fullmatch(r"batch_[0-9a-zA-Z]+", batch.id)
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", URL, "24h")
    assert (batch.failed_at, batch.expired_at, batch.cancelling_at, batch.cancelled_at) == (None, None, None, None)
    assert (batch.status, batch.errors, batch.model, batch.metadata) == ("completed", None, base, {"key": "1"})
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (43, 40, 3)
    assert batch.usage is not None
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens > 0
    assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)

    output = lines_of(client, batch.output_file_id)
    assert set(output) == {entry["custom_id"] for entry in good}
    for name in (batch.output_file_id, batch.error_file_id):
        file = client.files.retrieve(str(name))
        assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 30 * 24 * 3600)
    for entry in output.values():
        assert set(entry) == {"id", "custom_id", "response", "error"}
        assert entry["id"].startswith("batch_req_")
        assert set(entry["response"]) == {"status_code", "request_id", "body"}
        assert (entry["response"]["status_code"], entry["error"]) == (200, None)
        checked(ChatCompletion, entry["response"]["body"])
    errors = lines_of(client, batch.error_file_id)
    assert {name: entry["response"]["body"]["error"]["param"] for name, entry in errors.items()} == {
        "hot": "temperature",
        "odd": "colour",
        "stream": "stream",
    }
    assert {entry["response"]["status_code"] for entry in errors.values()} == {400}


def test_a_deeply_nested_line_fails_alone(client: openai.OpenAI, base: str) -> None:
    """Deeper than some parsers go: it must not stop the batch, nor the batches behind it."""
    nested: Any = {}
    for _ in range(400):
        nested = {"x": nested}
    batch = run(client, [line("good", base), line("deep", base, metadata=nested)])
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 1)
    (error,) = lines_of(client, batch.error_file_id).values()
    assert (error["custom_id"], error["response"]["status_code"]) == ("deep", 400)


def test_a_line_nested_beyond_any_use_fails_the_file(client: openai.OpenAI, base: str) -> None:
    nested: Any = {}
    for _ in range(600):
        nested = {"x": nested}
    batch = run(client, [line("good", base), line("deep", base, metadata=nested)])
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(fault.line, fault.code) for fault in batch.errors.data or ()] == [(2, "invalid_json_line")]


def test_a_batch_gives_the_answers_of_chats(client: openai.OpenAI, base: str) -> None:
    batch = run(client, [line(str(n), base, temperature=0) for n in range(5)])
    assert batch.error_file_id is None
    for name, entry in lines_of(client, batch.output_file_id).items():
        direct = client.chat.completions.create(**line(name, base, temperature=0)["body"])
        assert entry["response"]["body"]["choices"][0]["message"]["content"] == direct.choices[0].message.content


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line("a", "BASE"), line("a", "BASE")], "duplicate_custom_id", 2),
        ([line("a", "BASE") | {"url": "/v1/embeddings"}], "mismatched_endpoint", 1),
        ([line("a", "BASE") | {"method": "GET"}], "invalid_value", 1),
        ([line("a", "BASE"), line("b", "gemma-3-270m")], "mismatched_model", 2),
        ([line("a", "nobody")], "model_not_found", 1),
        (["text"], "invalid_type", 1),
        ([{"method": "POST", "url": URL, "body": {}}], "missing_required_parameter", 1),
        ([line("a", "BASE") | {"colour": "red"}], "unknown_parameter", 1),
        ([line("a", "BASE", user="\ud800")], "invalid_json_line", 1),
    ],
)
def test_a_broken_file_fails_the_batch(
    client: openai.OpenAI, base: str, lines: list[Any], code: str, number: int
) -> None:
    batch = run(client, json.loads(json.dumps(lines).replace("BASE", base)))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == [(code, number)]


def test_refused_at_creation(client: openai.OpenAI) -> None:
    file = upload(client, [{"a": 1}], "fine-tune")
    for wrong in ({"input_file_id": "file-0"}, {"input_file_id": file.id}, {"endpoint": "/v1/embeddings"}):
        request: Any = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h"} | wrong
        with pytest.raises(openai.BadRequestError) as caught:
            client.batches.create(**request)
        assert caught.value.param == next(iter(wrong))


def test_cancel_keeps_the_answers(client: openai.OpenAI, base: str) -> None:
    file = upload(client, [line(str(n), base, temperature=0) for n in range(3000)], "batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = wait_for(lambda: (current := client.batches.retrieve(batch.id)).status == "cancelled" and current)
    assert ended.cancelling_at is not None
    assert ended.cancelled_at is not None
    assert ended.request_counts is not None
    assert ended.request_counts.completed < 3000
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.cancel(batch.id)
    assert error_of(caught.value.response, 400)["param"] == "batch_id"


def test_a_cancelled_batch_is_written_no_further(client: openai.OpenAI, base: str, tiny_model: Path) -> None:
    """Its answers would take minutes."""
    end = Tokenizer.from_file(str(tiny_model / "tokenizer.json")).token_to_id("<|im_end|>")
    endless: Any = {"max_completion_tokens": 7000, "logit_bias": {str(end): -100}, "temperature": 0}
    file = upload(client, [line("0", base), *(line(str(n), base, **endless) for n in range(1, 65))], "batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    time.sleep(1)
    client.batches.cancel(batch.id)
    ended = wait_for(lambda: (current := client.batches.retrieve(batch.id)).status == "cancelled" and current, 30)
    assert ended.request_counts is not None
    assert ended.request_counts.failed == 0
    assert ended.request_counts.completed < 65


def test_a_batch_expires_after_a_day(client: openai.OpenAI, server: ServerProcess, base: str) -> None:
    """Requests without an answer go to the error file, answers stay; the test moves the creation date back."""
    file = upload(client, [line(str(n), base, temperature=0) for n in range(3000)], "batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=URL,
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )
    wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    with sqlite3.connect(server.data_dir / "account.db", timeout=30) as table:
        table.execute("update batches set created_at = created_at - 90000 where id = ?", (batch.id,))
    table.close()
    ended = wait_for(lambda: (current := client.batches.retrieve(batch.id)).expired_at is not None and current)
    assert ended.status == "expired"
    assert ended.request_counts is not None
    late = lines_of(client, ended.error_file_id)
    assert len(late) == ended.request_counts.failed > 0
    assert ended.request_counts.completed + len(late) == ended.request_counts.total == 3000
    for entry in late.values():
        assert (entry["response"], entry["error"]["code"]) == (None, "batch_expired")
    errors = client.files.retrieve(str(ended.error_file_id))
    assert errors.expires_at == errors.created_at + 7200


def test_list_by_page(client: openai.OpenAI) -> None:
    batch_ids = [run(client, [line("a", "nobody")]).id for _ in range(3)]
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == batch_ids[:0:-1]
    assert page.has_more
    assert client.batches.list(after=batch_ids[1], limit=1).data[0].id == batch_ids[0]
    raw: Any = client.batches.with_raw_response.list(limit=2).http_response.json()
    assert [batch.id for batch in listed(Batch, raw, ends=True)] == batch_ids[:0:-1]
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError) as caught:
            call("batch_0")
        assert error_of(caught.value.response, 404)["param"] == "batch_id"
