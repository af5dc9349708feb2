"""Which errors reject one review, and which end the run; the bodies are those that providers send."""

from typing import Any

import httpx2
import openai
import pytest

from reviewtune.providers.responses.rejections import refused, refused_line

OF_THE_REVIEW: list[tuple[int, dict[str, Any]]] = [
    # OpenAI, Azure's content filter, vLLM (no code but the number), llama.cpp
    (400, {"code": "context_length_exceeded", "message": "This model's maximum context length is 128000 tokens."}),
    (400, {"code": "content_filter", "message": "The response was filtered", "type": None, "status": 400}),
    (400, {"code": 400, "type": "BadRequestError", "message": "This model's maximum context length is 512 tokens."}),
    (400, {"code": 400, "type": "exceed_context_size_error", "message": "the request exceeds the context size"}),
    (413, {"message": "Payload Too Large"}),
]
OF_THE_RUN: list[tuple[int, dict[str, Any]]] = [
    (400, {"code": "unsupported_parameter", "message": "'seed' is not supported", "param": "seed"}),
    (401, {"code": "invalid_api_key", "message": "wrong key"}),
    (404, {"code": "model_not_found", "message": "no such model"}),
    (429, {"code": "rate_limit_exceeded", "message": "slow down"}),
    (500, {"message": "This model's maximum context length could not be read"}),
]


def error(status: int, body: dict[str, Any]) -> openai.APIStatusError:
    """What the openai client raises when a provider answers so."""
    answer = httpx2.MockTransport(lambda _: httpx2.Response(status, json={"error": body}))
    http = openai.DefaultHttpxClient(transport=answer)
    with (
        openai.OpenAI(api_key="any", base_url="http://127.0.0.1/v1", max_retries=0, http_client=http) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.chat.completions.create(model="m", messages=[])
    return raised.value


@pytest.mark.parametrize(("status", "body"), OF_THE_REVIEW)
def test_a_rejected_review_is_an_answer_with_the_reason(status: int, body: dict[str, Any]) -> None:
    line = {"custom_id": "0-x", "response": {"status_code": status, "body": {"error": body}}}
    for answer in (refused(error(status, body)), refused_line(line)):
        assert answer is not None
        assert answer.refused == f"HTTP {status}: {body['message']}"


@pytest.mark.parametrize(("status", "body"), OF_THE_RUN)
def test_other_errors_end_the_run(status: int, body: dict[str, Any]) -> None:
    assert refused(error(status, body)) is None
    assert refused_line({"custom_id": "0-x", "response": {"status_code": status, "body": {"error": body}}}) is None
