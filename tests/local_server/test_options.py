"""A server that is started with an API key, a short queue and a JSON log."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import typer
from tokenizers import Tokenizer

from reviewtune.local_server.__main__ import check_aliases
from reviewtune.local_server.logs import LOG_BYTES
from tests.support.serving import ServerProcess, example, finished, running, upload, wait_for
from tests.support.wire import error_of

KEY = "sesame-77"
ASK: Any = [{"role": "user", "content": "the parcel came late"}]
AZURE = ("", "v1/", "deployments/x/")
OTHER_ROUTES = ["GET /v1/nothing", "GET /openapi.json", "GET /", "OPTIONS /v1/models"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[ServerProcess]:
    options: tuple[str, ...] = (
        "--base-model",
        str(tiny_model),
        "--max-waiting",
        "1",
        "--log-format",
        "json",
        "--log-contents",
    )
    options += ("--alias", f"gpt-4o-mini={tiny_model}")
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


def routes_of(server: ServerProcess) -> list[str]:
    """All routes that the server has, also below Azure's paths, and some that it has not."""
    root = server.base_url.removesuffix("/v1")
    page = httpx2.get(f"{root}/openapi.json", headers={"authorization": f"Bearer {KEY}"}).json()
    own = [(verb.upper(), re.sub(r"{.*?}", "x", path)) for path, verbs in page["paths"].items() for verb in verbs]
    azure = [(verb, path.replace("/v1/", f"/openai/{middle}", 1)) for verb, path in own for middle in AZURE]
    return [*(" ".join(route) for route in own + azure if "/" in route[1] and route[1] != "/healthz"), *OTHER_ROUTES]


def test_the_health_alone_is_told_without_a_key(strict: ServerProcess) -> None:
    """What watches a service has no key; the folder and the process are for those who have it."""
    address = f"{strict.base_url.removesuffix('/v1')}/healthz"
    assert httpx2.get(address).json() == {"status": "ok"}
    for wrong in ({"authorization": "Bearer x"}, {"authorization": "Bearer"}, {"api-key": "x"}, {"api-key": ""}):
        assert httpx2.get(address, headers=wrong).status_code == 401
    assert httpx2.get(address, headers={"api-key": KEY}).json()["pid"]


def test_every_route_needs_the_key(strict: ServerProcess) -> None:
    """Before anything else, so that nobody without a key learns which routes and models there are."""
    routes = routes_of(strict)
    assert len(routes) > 100
    assert {"POST /v1/completions", "POST /openai/deployments/x/responses"} < set(routes)
    with httpx2.Client() as client:
        for route in routes:
            verb, path = route.split()
            url = strict.base_url.removesuffix("/v1") + path
            assert error_of(client.request(verb, url), 401)["code"] is None
            for wrong in ("sesame-78", f"{KEY}x", "sesame", "\u00e4"):
                headers = {b"authorization": f"Bearer {wrong}".encode()}
                error = error_of(client.request(verb, url, headers=headers), 401)
                assert (error["code"], error["param"]) == ("invalid_api_key", None)
                assert wrong not in error["message"]


def test_a_key_in_another_header_is_refused_with_the_right_one(strict: ServerProcess) -> None:
    error = error_of(httpx2.get(f"{strict.base_url}/models", headers={"x-api-key": KEY}), 401)
    assert "'Authorization: Bearer KEY', not as 'x-api-key'" in error["message"]
    assert KEY not in error["message"]


def test_the_header_of_azure_has_the_key_too(strict: ServerProcess) -> None:
    address = f"{strict.base_url.removesuffix('/v1')}/openai/models?api-version=2024-10-21"
    assert httpx2.get(address, headers={"api-key": KEY}).json()["object"] == "list"
    for wrong in ({"api-key": f"{KEY}x"}, {"api-key": KEY, "authorization": "Bearer x"}):
        assert error_of(httpx2.get(address, headers=wrong), 401)["code"] == "invalid_api_key"
    assert error_of(httpx2.get(address), 401)["code"] is None


def test_a_model_has_another_name(strict: ServerProcess, base: str) -> None:
    ask: Any = {"messages": ASK, "max_completion_tokens": 3, "temperature": 0}
    answer = strict.client.chat.completions.create(model="gpt-4o-mini", **ask)
    assert answer.model == "gpt-4o-mini"
    assert answer.choices == strict.client.chat.completions.create(model=base, **ask).choices
    assert {"gpt-4o-mini", base} <= {model.id for model in strict.client.models.list()}
    assert strict.client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    with pytest.raises(openai.NotFoundError):
        strict.client.models.delete("gpt-4o-mini")
    completion = strict.client.completions.create(model="gpt-4o-mini", prompt="late", max_tokens=1)
    assert completion.model == "gpt-4o-mini"


def test_a_fine_tune_of_an_alias_has_the_alias_in_its_name(strict: ServerProcess) -> None:
    """Clients that know hosted names only recognize a fine-tune by this part of its name."""
    file = upload(strict.client, [example(index) for index in range(10)])
    job = strict.client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id)
    assert job.model == "gpt-4o-mini"
    model = str(finished(strict.client, job.id).fine_tuned_model)
    assert model.startswith("ft:gpt-4o-mini:local:")
    ask: Any = {"messages": ASK, "max_completion_tokens": 3}
    assert strict.client.chat.completions.create(model=model, **ask).model == model


@pytest.mark.parametrize("entries", [["gpt"], ["=x"], ["gpt="], ["smollm2-135m-instruct=x"], ["a=x", "a=y"]])
def test_other_names_that_cannot_be_given(entries: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        check_aliases(entries)
    assert check_aliases(["a=x=y"]) == ["a=x=y"]


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
