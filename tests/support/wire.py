"""Checks of response bodies: the openai package's own types accept them strictly, and nothing is left over."""

import json
from collections.abc import Collection
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)


def checked(kind: type[ModelT], body: object, extra: Collection[str] = ()) -> ModelT:
    """A body as its type; `extra` are fields of the API that the package does not have."""
    item = kind.model_validate_json(body if isinstance(body, str) else json.dumps(body), strict=True)
    assert set(item.model_extra or {}) == set(extra)
    return item


def listed(kind: type[ModelT], body: Any, extra: Collection[str] = (), *, ends: bool) -> list[ModelT]:
    """The items of a list object."""
    assert set(body) == {"object", "data", "has_more"} | ({"first_id", "last_id"} if ends else set())
    assert (body["object"], type(body["has_more"])) == ("list", bool)
    if ends:
        names = [item["id"] for item in body["data"]] or [None]
        assert (body["first_id"], body["last_id"]) == (names[0], names[-1])
    return [checked(kind, item, extra) for item in body["data"]]


def error_of(answer: httpx2.Response, status: int, type_: str = "invalid_request_error") -> dict[str, Any]:
    """The error object of an answer with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == type_
    assert isinstance(error["message"], str)
    assert error["message"]
    return error
