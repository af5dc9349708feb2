"""What /openapi.json says about requests and errors, beyond what FastAPI reads from the routes."""

from typing import Any

from fastapi import FastAPI

from reviewtune.deployment.app.problems import MEDIA_TYPE
from reviewtune.deployment.app.schemas import ClassifyRequest, ProblemBody

REQUEST_BODY = {"required": True, "content": {"application/json": {"schema": ClassifyRequest.model_json_schema()}}}
CLASSIFY_PROBLEMS = (400, 401, 403, 408, 413, 415, 422, 429, 500, 502, 503, 504)

_WORDS = {
    400: "the body is not JSON",
    401: "the key is missing or wrong",
    403: "without a key, the Host header must be an IP address or localhost",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not declared as application/json",
    422: "the body is not a request; `errors` names the parts",
    429: "the queue is full; Retry-After is in seconds",
    500: "the service failed",
    502: "the model's provider failed",
    503: "no model can answer yet; Retry-After is in seconds",
    504: "no answer in time",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, as FastAPI wants them."""
    return {status: {"model": ProblemBody, "description": _WORDS[status]} for status in statuses}


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's page with the media type that errors really have."""
    page = FastAPI.openapi(app)
    for operations in page["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status in map(str, _WORDS) and "application/json" in response.get("content", {}):
                    response["content"] = {MEDIA_TYPE: response["content"].pop("application/json")}
    return page
