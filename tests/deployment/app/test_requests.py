"""What a client gets: an answer for each review, and for every other body one clear error in one form."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.app_service import AppProcess
from tests.support.odd_server import OddServer, damaged, json_values


def post(app: AppProcess, body: bytes, **headers: str) -> Any:
    return app.client.post("/classify", content=body, headers={"content-type": "application/json", **headers})


def test_one_review(app: AppProcess, labels: tuple[str, ...]) -> None:
    (result,) = app.client.post("/classify", json={"text": f"{labels[0]} again"}).json()["results"]
    assert (result["label"], result["model"], result["why"]) == (labels[0], "tiny", None)
    assert set(result) == {"label", "confidence", "sure", "why", "model", "version"}


def test_many_reviews_in_order_and_one_without_a_label_does_not_stop_the_others(
    app: AppProcess, labels: tuple[str, ...]
) -> None:
    first, odd, last = app.classify(f"{labels[2]}!", "odd one", f"{labels[1]}?")
    assert [first["label"], odd["label"], last["label"]] == [labels[2], None, labels[1]]
    assert odd["why"]
    assert not odd["sure"]


def test_a_blank_or_too_long_review_does_not_stop_the_others(
    app: AppProcess, provider: OddServer, labels: tuple[str, ...]
) -> None:
    asked = len(provider.seen)
    texts = [f"{labels[0]}!", "", " \u3000\n", "x" * 20_001, f"{labels[1]}?"]
    first, empty, blank, long, last = app.classify(*texts)
    assert [first["label"], last["label"]] == [labels[0], labels[1]]
    assert [one["label"] for one in (empty, blank, long)] == [None] * 3
    assert [one["sure"] for one in (empty, blank, long)] == [False] * 3
    assert empty["why"] == blank["why"] == "the review is empty"
    assert long["why"] == "the review is longer than 20,000 characters"
    assert [one["model"] for one in app.classify("", " ")] == [None, None], "also if there is nothing to ask"
    assert len(provider.seen) == asked + 2
    assert app.events("request")[-2]["model"] == "tiny"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "The body is not valid JSON"),
        (b"{", 400, "The body is not valid JSON"),
        (b"\xff\xfe", 400, "The body is not valid JSON"),
        (b'{"text": "\\ud800"}', 400, "The body is not valid JSON"),
        (b"[" * 100_000, 400, "The body is not valid JSON"),
        (b"[1]", 422, "The body must be a JSON object with text or texts."),
        (b"{}", 422, "The body must have either text (one review) or texts (a list of reviews)."),
        (b'{"text": "a", "texts": ["b"]}', 422, "The body must have either text (one review) or texts"),
        (b'{"review": "a"}', 422, "/review is not known; known are text and texts."),
        (b'{"text": ""}', 422, "/text is empty."),
        (b'{"text": " \\u3000\\n"}', 422, "/text has only white space."),
        (b'{"text": 5}', 422, "/text must be a string."),
        (b'{"text": ["a"]}', 422, "/text must be a string."),
        (b'{"texts": "a"}', 422, "/texts must be a list of strings."),
        (b'{"texts": []}', 422, "/texts is an empty list."),
        (b'{"texts": ["a", 3, null, ""]}', 422, "/texts/1 must be a string (and 1 more)."),
        (json.dumps({"text": "a" * 20_001}).encode(), 422, "/text is longer than 20,000 characters."),
        (json.dumps({"texts": ["a"] * 10_000}).encode(), 422, "/texts has 10,000 reviews; at most 64 are allowed"),
        (b" " * (4 * 2**20 + 1), 413, "The request is too large: at most 4 MiB."),
    ],
)
def test_a_wrong_body_is_refused_with_what_is_wrong(app: AppProcess, body: bytes, status: int, detail: str) -> None:
    response = post(app, body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"].startswith(detail)


def test_every_faulty_review_is_named_up_to_ten(app: AppProcess) -> None:
    errors = post(app, json.dumps({"texts": ["fine", *[3] * 20]}).encode()).json()["errors"]
    assert [error["pointer"] for error in errors] == [f"/texts/{place}" for place in range(1, 11)]


def test_a_body_without_a_length_is_limited_too(app: AppProcess) -> None:
    chunks = (b" " * 2**16 for _ in range(80))
    response = app.client.post("/classify", content=chunks, headers={"content-type": "application/json"})
    assert response.status_code == 413


def test_a_form_is_refused_so_that_no_web_page_can_send_one(app: AppProcess) -> None:
    response = app.client.post("/classify", content=b'{"text": "a"}', headers={"content-type": "text/plain"})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/docs", 404), ("PUT", "/classify", 405)]
)
def test_unknown_paths_and_methods_are_problems_too(app: AppProcess, method: str, path: str, status: int) -> None:
    response = app.client.request(method, path)
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=json_values() | damaged({"texts": ["late", "broken", "fine"]}) | damaged({"text": "late"}))
def test_any_json_gets_an_answer_or_a_4xx(app: AppProcess, body: Any) -> None:
    response = post(app, json.dumps(body).encode())
    assert response.status_code in (200, 400, 422)
    if response.status_code == 200:
        assert len(response.json()["results"]) == len(body.get("texts") or [body["text"]])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=50).filter(lambda text: text.strip() != ""))
def test_any_text_reaches_the_provider(app: AppProcess, provider: OddServer, text: str) -> None:
    response = app.client.post("/classify", json={"text": text})
    assert response.status_code in (200, 422)  # 422: only white space, as regular expressions see it


def test_the_id_of_a_request_is_kept_if_it_is_harmless(app: AppProcess) -> None:
    assert app.client.get("/healthz", headers={"x-request-id": "order-7.3"}).headers["x-request-id"] == "order-7.3"
    for odd in ("a b", "x" * 129, '{"a":1}', ""):
        given = app.client.get("/healthz", headers={"x-request-id": odd}).headers["x-request-id"]
        assert given != odd
        assert len(given) == 32


def test_the_description_fits_what_the_service_does(app: AppProcess) -> None:
    page = app.client.get("/openapi.json").json()
    assert set(page["paths"]) == {"/classify", "/healthz", "/readyz", "/metrics"}
    errors = page["paths"]["/classify"]["post"]["responses"]
    assert list(errors["429"]["content"]) == ["application/problem+json"]
    assert page["components"]["schemas"]["ProblemBody"]["required"] == ["title", "status", "detail"]
