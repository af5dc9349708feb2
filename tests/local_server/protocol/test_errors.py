"""Every error response has OpenAI's shape, status, param and code; a client's mistake is never a 422 or a 5xx."""

import json
import time
from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from tests.support.serving import ServerProcess
from tests.support.wire import error_of

ASK = [{"role": "user", "content": "x"}]


class Case(NamedTuple):
    body: dict[str, Any]  # changes to a valid request
    param: str | None
    code: str


NAN = float("nan")
F: dict[str, Any] = {"name": "f"}
TOOL: dict[str, Any] = {"type": "function", "function": F}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLS: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
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
    Case({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]", "invalid_type"),
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
    Case({"temperature": NAN}, "temperature", "invalid_type"),
    Case({"temperature": "hot"}, "temperature", "invalid_type"),
    Case({"frequency_penalty": 2.5}, "frequency_penalty", "decimal_above_max_value"),
    Case({"presence_penalty": -3}, "presence_penalty", "decimal_below_min_value"),
    Case({"logit_bias": {"5": 101}}, "logit_bias.5", "decimal_above_max_value"),
    Case({"logit_bias": {"word": 1}}, "logit_bias.word", "invalid_value"),
    Case({"logit_bias": [5]}, "logit_bias", "invalid_type"),
    Case({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "invalid_parameter_combination"),
    Case({"stream": "yes"}, "stream", "invalid_type"),
    Case({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
    Case({"messages": [ASK[0] | {"colour": "red"}]}, "messages[0].colour", "unknown_parameter"),
    Case({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages[0].role", "invalid_value"),
    Case({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
    Case({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name", "missing_required_parameter"),
    Case({"messages": [ASK[0] | {"tool_calls": [CALL]}]}, "messages[0].tool_calls", "invalid_value"),
    Case({"messages": [ASK[0] | {"content": None}]}, "messages[0].content", "invalid_type"),
    Case({"messages": [*ASK, CALLS]}, "messages[1].tool_calls", "invalid_value"),
    Case({"messages": [*ASK, CALLS, *ASK]}, "messages[1].tool_calls", "invalid_value"),
    Case(
        {"messages": [*ASK, CALLS, {"role": "tool", "content": "x", "tool_call_id": "d"}]},
        "messages[2].tool_call_id",
        "invalid_value",
    ),
    Case({"functions": [{"name": "f g"}]}, "functions[0].name", "invalid_value"),
    Case({"functions": [F], "tools": [TOOL]}, "functions", "invalid_value"),
    Case({"function_call": {"name": "f"}}, "function_call", "invalid_value"),
    Case({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    Case({"tool_choice": "any", "tools": [TOOL]}, "tool_choice", "invalid_value"),
    Case({"tool_choice": {"type": "custom"}, "tools": [TOOL]}, "tool_choice.type", "invalid_value"),
    Case(
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
        "tool_choice",
        "invalid_value",
    ),
    Case({"tools": [TOOL] * 129}, "tools", "array_above_max_length"),
    Case({"tools": [TOOL, TOOL]}, "tools[1].function.name", "invalid_value"),
    Case({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "invalid_value"),
    Case(
        {"tools": [{"type": "function", "function": F | {"parameters": {"type": "array"}}}]},
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    Case(
        {
            "tools": [
                {
                    "type": "function",
                    "function": F | {"strict": True, "parameters": {"type": "object", "properties": {"a": {}}}},
                }
            ]
        },
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    Case(
        {
            "tools": [
                {
                    "type": "function",
                    "function": F | {"parameters": {"type": "object", "properties": {"a": {"type": "strnig"}}}},
                }
            ]
        },
        "tools",
        "invalid_function_parameters",
    ),
    Case({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    Case({"prediction": {"type": "words"}}, "prediction.type", "invalid_value"),
    Case({"audio": {"voice": "x", "format": "wav"}}, "audio", "unsupported_parameter"),
    Case({"verbosity": "chatty"}, "verbosity", "invalid_value"),
    Case({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    Case({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    Case({"reasoning_effort": "enormous"}, "reasoning_effort", "invalid_value"),
    Case({"service_tier": "first class"}, "service_tier", "invalid_value"),
    Case({"prompt_cache_retention": "1h"}, "prompt_cache_retention", "invalid_value"),
    Case({"store": "yes"}, "store", "invalid_type"),
    Case({"moderation": {"model": "x"}}, "moderation", "unsupported_parameter"),
    Case({"messages": [ASK[0] | {"name": 7}]}, "messages[0].name", "invalid_type"),
    Case({"messages": [{"role": "assistant", "content": "x", "refusal": "no"}]}, "messages[0].refusal", ""),
    Case({"messages": [CALLS | {"tool_calls": [{}]}]}, "messages[0].tool_calls[0].id", "missing_required_parameter"),
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
    Case({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "integer_below_min_value"),
    Case({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", "integer_above_max_value"),
    Case({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}", "string_above_max_length"),
    Case({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
    Case({"method": {"type": "reinforcement"}}, "method.type", "invalid_value"),
    Case(
        {
            "hyperparameters": {"n_epochs": 1},
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        },
        "hyperparameters",
        "invalid_value",
    ),
    Case({"colour": "red"}, "colour", "unknown_parameter"),
    Case({"hyperparameters": {"beta": 1}}, "hyperparameters.beta", "unknown_parameter"),
    Case(
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"learning_rate_multiplier": 0}}}},
        "method.supervised.hyperparameters.learning_rate_multiplier",
        "decimal_below_min_value",
    ),
]


BATCH = [
    Case({"input_file_id": "file-0"}, "input_file_id", ""),
    Case({"input_file_id": 7}, "input_file_id", "invalid_type"),
    Case({"endpoint": "/v1/embeddings"}, "endpoint", "invalid_value"),
    Case({"completion_window": "1h"}, "completion_window", "invalid_value"),
    Case({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "array_above_max_length"),
    Case(
        {"output_expires_after": {"anchor": "created_at", "seconds": 3599}},
        "output_expires_after.seconds",
        "integer_below_min_value",
    ),
    Case({"colour": "red"}, "colour", "unknown_parameter"),
]
GOOD_BATCH = {"input_file_id": "file-0", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def error_of_post(server: ServerProcess, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return error_of(post(server, path, json.dumps(body)), 400)


def post(server: ServerProcess, path: str, content: str | bytes) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return httpx2.post(server.base_url + path, content=content, headers=headers, timeout=60)


@pytest.mark.parametrize("case", CHAT, ids=str)
def test_chat(server: ServerProcess, base: str, case: Case) -> None:
    error = error_of_post(server, "/chat/completions", {"model": base, "messages": ASK} | case.body)
    assert error["param"] == case.param
    assert not case.code or error["code"] == case.code


@pytest.mark.parametrize("case", JOB, ids=str)
def test_job(server: ServerProcess, base: str, case: Case) -> None:
    error = error_of_post(server, "/fine_tuning/jobs", {"model": base, "training_file": "file-0"} | case.body)
    assert error["param"] == case.param
    assert not case.code or error["code"] == case.code


@pytest.mark.parametrize("case", BATCH, ids=str)
def test_batch(server: ServerProcess, case: Case) -> None:
    error = error_of_post(server, "/batches", GOOD_BATCH | case.body)
    assert error["param"] == case.param
    assert not case.code or error["code"] == case.code


@pytest.mark.parametrize(
    ("path", "body", "missing"),
    [
        ("/chat/completions", {"model": "x"}, "messages"),
        ("/chat/completions", {"messages": ASK}, "model"),
        ("/fine_tuning/jobs", {"model": "x"}, "training_file"),
        ("/fine_tuning/jobs", {"training_file": "x"}, "model"),
        *(("/batches", {key: GOOD_BATCH[key] for key in GOOD_BATCH if key != name}, name) for name in GOOD_BATCH),
    ],
)
def test_missing(server: ServerProcess, path: str, body: dict[str, Any], missing: str) -> None:
    error = error_of_post(server, path, body)
    assert (error["param"], error["code"]) == (missing, "missing_required_parameter")


def test_neutral_values_are_accepted(client: openai.OpenAI, base: str) -> None:
    neutral: Any = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "modalities": ["text"],
        "store": True,
        "service_tier": "flex",
        "verbosity": "low",
        "reasoning_effort": "high",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
        "prediction": {"type": "content", "content": "x"},
        "tools": [],
        "parallel_tool_calls": False,
        "user": "someone",
        "metadata": {"k": "v"},
        "seed": None,
        "stop": None,
    }
    assert client.chat.completions.create(model=base, messages=ASK, max_completion_tokens=1, **neutral).choices  # type: ignore[arg-type]


def test_values_that_change_nothing_do_not_change_the_answer(client: openai.OpenAI, base: str) -> None:
    plain: Any = {"model": base, "messages": ASK, "max_completion_tokens": 4, "temperature": 0}
    named: Any = plain | {"messages": [ASK[0] | {"name": "Minsu"}]}
    expected = client.chat.completions.create(**plain).choices
    changes: tuple[Any, ...] = ({"store": True}, {"service_tier": "priority"}, {"reasoning_effort": "low"})
    for change in ({}, *changes, {"verbosity": "high"}):
        assert client.chat.completions.create(**named, **change).choices == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"web_search_options": {}}, "no access to the web"),
        ({"modalities": ["text", "audio"]}, "text only"),
    ],
)
def test_refusals_say_what_to_do_instead(server: ServerProcess, base: str, changes: dict[str, Any], words: str) -> None:
    error = error_of_post(server, "/chat/completions", {"model": base, "messages": ASK} | changes)
    assert (error["param"], error["code"]) == (next(iter(changes)), "unsupported_parameter")
    assert words in error["message"]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("POST /v1/assistants", "POST /v1/chat/completions"),
        ("GET /v1/threads/thread_1", "POST /v1/chat/completions"),
        ("POST /responses", "did you mean /v1/responses? The base_url must end with /v1"),
        ("POST /completions", "did you mean /v1/completions? The base_url must end with /v1"),
        ("POST /v1/messages", "POST /v1/chat/completions"),
        ("POST /api/chat", "POST /v1/chat/completions"),
        ("POST /deployments/m/chat/completions", "begin with /openai/deployments/ or /openai/v1/"),
        ("POST /chat/completions", "did you mean /v1/chat/completions? The base_url must end with /v1"),
        ("GET /v1/v1/models", "did you mean /v1/models?"),
        ("GET /models/", "did you mean /v1/models?"),
    ],
)
def test_unknown_routes_say_which_one_to_use(server: ServerProcess, route: str, words: str) -> None:
    verb, path = route.split()
    error = error_of(httpx2.request(verb, server.base_url.removesuffix("/v1") + path), 404)
    assert error["message"].startswith(f"Invalid URL ({verb} {path.partition('?')[0]}): ")
    assert words in error["message"]


INVALID_JSON = [
    b"{bad",
    b"",
    b'{"a": 1e999, "b": [}',
    b"\xff\xfe\x00",
    b'{"a":' * 50_000,
    b'{"a": 1' + b"0" * 5000 + b"}",
]


@pytest.mark.parametrize("content", INVALID_JSON, ids=lambda content: content[:12])
@pytest.mark.parametrize("path", ["/chat/completions", "/fine_tuning/jobs", "/batches"])
def test_not_json(server: ServerProcess, path: str, content: bytes) -> None:
    error = error_of(post(server, path, content), 400)
    assert (error["param"], error["code"]) == (None, None)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"x"', b"7"])
def test_json_that_is_not_an_object(server: ServerProcess, content: bytes) -> None:
    assert error_of(post(server, "/chat/completions", content), 400)["param"] is None


@pytest.mark.parametrize("place", ["model", "user", "key", "content", "schema"])
def test_half_of_a_surrogate_pair(server: ServerProcess, base: str, place: str) -> None:
    r"""JSON can contain \ud800, which is not a character; tokenizers and answers cannot represent it."""
    half = "\ud800"
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [half]}}}
    wrong: dict[str, dict[str, Any]] = {
        "model": {"model": half},
        "user": {"user": half},
        "key": {half: 1},
        "content": {"messages": [{"role": "user", "content": half}]},
        "schema": {"response_format": schema},
    }
    error_of_post(server, "/chat/completions", {"model": base, "messages": ASK} | wrong[place])


def test_a_long_wrong_value_is_shortened(server: ServerProcess) -> None:
    error = error_of_post(
        server, "/chat/completions", {"model": "x", "messages": [{"role": "x" * 10_000, "content": "x"}]}
    )
    assert len(error["message"]) < 1000


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/files?colour=red", "colour"),
        ("/models?limit=2", "limit"),
        ("/batches?order=asc", "order"),
        ("/fine_tuning/jobs?limit[x]=2", "limit[x]"),
        ("/files/file-0?purpose=batch", "purpose"),
    ],
)
def test_unknown_query_parameters(server: ServerProcess, path: str, name: str) -> None:
    error = error_of(httpx2.get(server.base_url + path), 400)
    assert (error["param"], error["code"]) == (name, "unknown_parameter")


def test_json_without_its_content_type(server: ServerProcess) -> None:
    """A browser can send such a request from any web page without asking, so it must be refused."""
    answer = httpx2.post(f"{server.base_url}/fine_tuning/jobs", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


def test_unknown_route_and_wrong_method(server: ServerProcess) -> None:
    for verb, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/files/", 404),
        ("PUT", "/files", 405),
        ("OPTIONS", "/models", 405),
    ):
        answer = httpx2.request(verb, server.base_url + path)
        error = error_of(answer, status)
        assert (error["param"], error["code"]) == (None, None)
    assert httpx2.get(f"{server.base_url}/nothing").json()["error"]["message"] == "Invalid URL (GET /v1/nothing)"


def test_host_names_other_than_localhost_are_refused(server: ServerProcess) -> None:
    for host, status in (("evil.example", 403), ("localhost:80", 200), ("[::1]", 200)):
        answer = httpx2.get(f"{server.base_url}/models", headers={"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"origin": "https://example.org"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "http://127.0.0.1:5000", "sec-fetch-site": "same-site"}, True),
    ],
)
def test_pages_of_other_machines_send_no_forms(server: ServerProcess, headers: dict[str, str], allowed: bool) -> None:
    """A browser lets any page send a form to any address."""
    form = {"file": ("a.jsonl", b"{}")}
    reply = httpx2.post(f"{server.base_url}/files", headers=headers, files=form, data={"purpose": "user_data"})
    assert (reply.status_code == 200) == allowed
    if not allowed:
        assert reply.json()["error"]["code"] == "origin_not_allowed"


def test_a_json_body_as_large_as_a_file_is_refused(server: ServerProcess) -> None:
    headers = {"content-type": "application/json", "content-length": str(40 * 2**20)}
    reply = httpx2.post(f"{server.base_url}/files", headers=headers, content=b"x" * (40 * 2**20))
    assert reply.status_code == 413


def test_a_body_of_many_wrong_items_is_refused_at_the_first(server: ServerProcess, base: str) -> None:
    begin = time.monotonic()
    reply = httpx2.post(
        f"{server.base_url}/chat/completions", json={"model": base, "messages": [1] * 300_000}, timeout=60
    )
    assert reply.json()["error"]["param"] == "messages[0]"
    assert time.monotonic() - begin < 30  # all of them took minutes and gigabytes


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
