"""A server that is started with an API key, a short queue and a JSON log."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tokenizers import Tokenizer

from reviewtune.local_server.logs import LOG_BYTES
from tests.support.serving import ServerProcess, running, wait_for
from tests.support.wire import error_of

KEY = "sesame-77"
ASK: Any = [{"role": "user", "content": "the parcel came late"}]
ROUTES = ["GET /v1/files", "POST /v1/files", "GET /v1/files/x/content", "DELETE /v1/files/x"]
ROUTES += ["POST /v1/fine_tuning/jobs", "GET /v1/fine_tuning/jobs/x/events", "POST /v1/fine_tuning/jobs/x/cancel"]
ROUTES += ["GET /v1/models", "DELETE /v1/models/x", "POST /v1/chat/completions", "POST /v1/batches", "GET /v1/nothing"]
ROUTES += ["GET /healthz", "GET /openapi.json", "GET /", "OPTIONS /v1/models"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[ServerProcess]:
    options = ("--base-model", str(tiny_model), "--max-waiting", "1", "--log-format", "json", "--log-contents")
    with running(tmp_path_factory.mktemp("strict") / "data", *options, api_key=KEY) as server:
        yield server


def test_the_log_file_is_bounded_and_has_the_output_of_a_crash(tmp_path: Path) -> None:
    """Twelve megabytes of lines; standard error, with the output of a crash, goes to the same file, as in client.py."""
    log = tmp_path / "server.log"
    program = """import logging, pathlib, sys
from reviewtune.local_server import logs
logs.set_up(logs.LogFormat.TEXT, pathlib.Path(sys.argv[1]))
for number in range(12_000):
    logging.getLogger("x").info("x" * 1000)
sys.stderr.write("last words")"""
    with log.open("ab") as output:
        subprocess.run([sys.executable, "-c", program, str(log)], stderr=output, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"server.log", "server.log.1"}
    assert all(path.stat().st_size <= LOG_BYTES + 1000 for path in tmp_path.iterdir())
    assert log.read_text().endswith("last words")


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_needs_the_key(strict: ServerProcess, route: str) -> None:
    verb, path = route.split()
    url = strict.base_url.removesuffix("/v1") + path
    assert error_of(httpx2.request(verb, url), 401)["code"] is None
    for wrong in ("sesame-78", f"{KEY}x", "sesame", "\u00e4"):
        error = error_of(httpx2.request(verb, url, headers={b"authorization": f"Bearer {wrong}".encode()}), 401)
        assert (error["code"], error["param"]) == ("invalid_api_key", None)
        assert wrong not in error["message"]


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_a_key_in_another_header_is_refused_with_the_right_one(strict: ServerProcess, header: str) -> None:
    error = error_of(httpx2.get(f"{strict.base_url}/models", headers={header: KEY}), 401)
    assert f"'Authorization: Bearer KEY', not as '{header}'" in error["message"]
    assert KEY not in error["message"]


def test_a_full_queue_asks_clients_to_try_again(strict: ServerProcess, base: str, tiny_model: Path) -> None:
    """The openai client waits as long as the server says, and gets its answer."""
    end = Tokenizer.from_file(str(tiny_model / "tokenizer.json")).token_to_id("<|im_end|>")
    long: Any = {"model": base, "messages": ASK, "max_completion_tokens": 700, "logit_bias": {str(end): -100}}
    with strict.client.chat.completions.create(**long, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            strict.client.chat.completions.create(model=base, messages=ASK)
        error = error_of(caught.value.response, 429, "requests")
        assert (error["code"], error["param"]) == ("rate_limit_exceeded", None)
        headers = caught.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 60
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert list(strict.client.models.list())  # only chats wait
        for _ in stream:
            pass
    patient = strict.client.with_options(max_retries=5)
    assert patient.chat.completions.create(model=base, messages=ASK, max_completion_tokens=2).choices


def test_the_json_log(strict: ServerProcess, base: str) -> None:
    answer = strict.client.chat.completions.with_raw_response.create(model=base, messages=ASK, max_completion_tokens=2)
    name, content = answer.headers["x-request-id"], answer.parse().choices[0].message.content
    wait_for(lambda: f'"{name}"' in strict.log.read_text())  # a request is logged after its answer has left
    lines = [json.loads(text) for text in strict.log.read_text().splitlines() if text.startswith("{")]
    (request,) = [entry for entry in lines if entry.get("id") == name]
    assert {"time", "level", "logger", "ms"} < set(request)
    assert (request["method"], request["path"], request["status"]) == ("POST", "/v1/chat/completions", 200)
    assert [content] in [entry["answers"] for entry in lines if entry["event"] == "chat"]
    assert KEY not in strict.log.read_text()
