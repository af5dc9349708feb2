"""Requests generated from the server's OpenAPI page: no server error, no 422, and responses that match the page."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.serving import ServerProcess

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
generated = settings(
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def operations(server: ServerProcess) -> list[Any]:
    page: Any = schemathesis.openapi.from_url(f"{server.base_url.removesuffix('/v1')}/openapi.json")
    return [operation.ok() for operation in page.get_all_operations()]


@pytest.mark.parametrize("mode", GenerationMode)
def test_no_request_breaks_the_server(operations: list[Any], base: str, mode: GenerationMode) -> None:
    """Valid requests, and requests with one fault each."""
    assert len(operations) == 30
    for operation in operations:
        if mode is GenerationMode.POSITIVE or operation.body or operation.query:
            strategy: Any = operation.as_strategy(generation_mode=mode)
            with_cases: Any = given(strategy)
            with_cases(generated(_attempt(base)))()


def _attempt(base: str) -> Any:
    def attempt(case: Any) -> None:
        _make_answerable(case.body, case.path, base)
        answer = case.call(timeout=60)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code != 422
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    return attempt


def _make_answerable(body: Any, path: str, base: str) -> None:
    if isinstance(body, dict) and isinstance(body.get("messages"), list):
        body |= {"model": base, "max_completion_tokens": 2, "n": 1}
        body.pop("max_tokens", None)
    elif isinstance(body, dict) and "prompt" in body:
        body |= {"model": base, "max_tokens": 2}
    elif isinstance(body, dict) and "input" in body:
        body |= {"model": base} | ({} if path.endswith("/input_tokens") else {"max_output_tokens": 16})
