"""Every refusal has OpenAI's shape, status, param and code."""

from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from tests.serving import ServerProcess

ASK = [{"role": "user", "content": "x"}]


class Case(NamedTuple):
    body: dict[str, Any]  # on top of a good request
    param: str | None
    code: str


CHAT = [
    Case({"messages": None}, "messages", "invalid_type"),
    Case({"messages": []}, "messages", "empty_array"),
    Case({"messages": "x"}, "messages", "invalid_type"),
    Case({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
    Case({"messages": [*ASK, {"content": "x"}]}, "messages[1].role", "missing_required_parameter"),
    Case({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    Case(
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].type",
        "invalid_value",
    ),
    Case({"messages": [{"role": "assistant", "content": "x", "tool_calls": [1]}]}, "messages[0].tool_calls", ""),
    Case({"model": 7}, "model", "invalid_type"),
    Case({"n": 0}, "n", "integer_below_min_value"),
    Case({"n": 129}, "n", "integer_above_max_value"),
    Case({"n": "two"}, "n", "invalid_type"),
    Case({"n": True}, "n", "invalid_type"),
    Case({"temperature": 5}, "temperature", "decimal_above_max_value"),
    Case({"temperature": -1}, "temperature", "decimal_below_min_value"),
    Case({"top_p": 1.5}, "top_p", "decimal_above_max_value"),
    Case({"seed": 2**63}, "seed", "integer_above_max_value"),
    Case({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
    Case({"stop": 5}, "stop", "invalid_type"),
    Case({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
    Case({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value"),
    Case({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    Case({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    Case({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    Case({"response_format": {}}, "response_format.type", "missing_required_parameter"),
    Case({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    Case(
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        "response_format.json_schema.name",
        "invalid_value",
    ),
    Case({"colour": "red"}, "colour", "unknown_parameter"),
    Case({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
    Case({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    Case({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    Case({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    Case({"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
    Case({"store": True}, "store", "unsupported_parameter"),
]

JOB = [
    Case({"training_file": "file-0"}, "training_file", ""),
    Case({"validation_file": "file-0", "training_file": "file-0"}, "training_file", ""),
    Case({"model": "gpt-4o"}, "model", "model_not_available"),
    Case({"suffix": ""}, "suffix", "empty_string"),
    Case({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
    Case({"seed": -1}, "seed", "integer_below_min_value"),
    Case({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "array_above_max_length"),
    Case({"integrations": [{"type": "wandb"}]}, "integrations", "unsupported_parameter"),
    Case({"method": {"type": "dpo"}}, "method.type", "invalid_value"),
    Case({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "integer_above_max_value"),
    Case({"hyperparameters": {"batch_size": "big"}}, "hyperparameters.batch_size", "invalid_type"),
    Case({"hyperparameters": {"beta": 1}}, "hyperparameters.beta", "unknown_parameter"),
    Case(
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"learning_rate_multiplier": 0}}}},
        "method.supervised.hyperparameters.learning_rate_multiplier",
        "decimal_below_min_value",
    ),
]


def refused(server: ServerProcess, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx2.post(server.base_url + path, json=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    return error


@pytest.mark.parametrize("case", CHAT, ids=str)
def test_chat(server: ServerProcess, base: str, case: Case) -> None:
    error = refused(server, "/chat/completions", {"model": base, "messages": ASK} | case.body)
    assert error["param"] == case.param
    assert not case.code or error["code"] == case.code


@pytest.mark.parametrize("case", JOB, ids=str)
def test_job(server: ServerProcess, base: str, case: Case) -> None:
    error = refused(server, "/fine_tuning/jobs", {"model": base, "training_file": "file-0"} | case.body)
    assert error["param"] == case.param
    assert not case.code or error["code"] == case.code


def test_what_changes_nothing_is_accepted(client: openai.OpenAI, base: str) -> None:
    neutral: Any = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "modalities": ["text"],
        "store": False,
        "service_tier": "auto",
        "user": "someone",
        "metadata": {"k": "v"},
        "seed": None,
        "stop": None,
    }
    assert client.chat.completions.create(model=base, messages=ASK, max_completion_tokens=1, **neutral).choices  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"{bad", b"", b'{"a": 1e999, "b": [}'])
def test_not_json(server: ServerProcess, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx2.post(f"{server.base_url}/chat/completions", content=content, headers=headers)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["type"]) == (None, "invalid_request_error")


def test_json_that_does_not_say_so(server: ServerProcess) -> None:
    """A browser can send such a request from any page without asking; it must not count."""
    answer = httpx2.post(f"{server.base_url}/fine_tuning/jobs", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


def test_unknown_route_and_wrong_verb(server: ServerProcess) -> None:
    for verb, path, status in (("GET", "/nothing", 404), ("GET", "/files/", 404), ("PUT", "/files", 405)):
        answer = httpx2.request(verb, server.base_url + path)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (status, None, None)
        assert answer.headers["x-request-id"]
    assert httpx2.get(f"{server.base_url}/nothing").json()["error"]["message"] == "Invalid URL (GET /v1/nothing)"


def test_a_web_page_cannot_come_in_by_a_name(server: ServerProcess) -> None:
    for host, status in (("evil.example", 403), ("localhost:80", 200), ("[::1]", 200)):
        answer = httpx2.get(f"{server.base_url}/models", headers={"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
def test_unknown_job(server: ServerProcess, path: str) -> None:
    answer = httpx2.get(f"{server.base_url}/fine_tuning/jobs/ftjob-0{path}")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "Could not find fine tune: ftjob-0",
        "type": "invalid_request_error",
        "param": "fine_tune_id",
        "code": "fine_tune_not_found",
    }


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_unknown_job_cannot_be_changed(server: ServerProcess, verb: str) -> None:
    answer = httpx2.post(f"{server.base_url}/fine_tuning/jobs/ftjob-0/{verb}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "fine_tune_not_found")


def test_unknown_model_in_chat(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"
    assert "The model `gpt-4o` does not exist or you do not have access to it." in str(caught.value)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=ftjob-0"])
def test_bad_pages(server: ServerProcess, query: str) -> None:
    answer = httpx2.get(f"{server.base_url}/fine_tuning/jobs?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_body_beyond_the_limit(server: ServerProcess) -> None:
    answer = httpx2.post(f"{server.base_url}/chat/completions", content=b" " * (33 * 2**20))
    assert answer.status_code == 413
