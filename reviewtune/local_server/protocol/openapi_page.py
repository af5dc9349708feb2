"""/openapi.json: FastAPI's description of the requests, and the openai package's types as responses."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from openai.types import Batch, Completion, FileDeleted, FileObject, Model, ModelDeleted
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.responses import Response
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

JOBS = "/v1/fine_tuning/jobs"
JOB = f"{JOBS}/{{job_id}}"
OBJECTS: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/v1/files"): FileObject,
    ("get", "/v1/files/{file_id}"): FileObject,
    ("delete", "/v1/files/{file_id}"): FileDeleted,
    ("post", JOBS): FineTuningJob,
    ("get", JOB): FineTuningJob,
    ("post", f"{JOB}/cancel"): FineTuningJob,
    ("post", f"{JOB}/pause"): FineTuningJob,
    ("post", f"{JOB}/resume"): FineTuningJob,
    ("get", "/v1/models/{name}"): Model,
    ("delete", "/v1/models/{name}"): ModelDeleted,
    ("post", "/v1/chat/completions"): ChatCompletion,
    ("post", "/v1/completions"): Completion,
    ("post", "/v1/responses"): Response,
    ("post", "/v1/responses/input_tokens"): InputTokenCountResponse,
    ("get", "/v1/responses/{response_id}"): Response,
    ("post", "/v1/batches"): Batch,
    ("get", "/v1/batches/{batch_id}"): Batch,
    ("post", "/v1/batches/{batch_id}/cancel"): Batch,
}
LISTS: dict[str, type[BaseModel]] = {
    "/v1/files": FileObject,
    JOBS: FineTuningJob,
    f"{JOB}/events": FineTuningJobEvent,
    f"{JOB}/checkpoints": FineTuningJobCheckpoint,
    "/v1/models": Model,
    "/v1/batches": Batch,
}
EXTRA_VALUES = [("FileObject", "purpose", "evals"), ("FineTuningJob", "status", "paused")]  # missing in the package
REFERENCE = "#/components/schemas/{model}"
TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, built once."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, routes=app.routes)
        types = {model.__name__: model for model in (*OBJECTS.values(), *LISTS.values())}
        names, definitions = models_json_schema(
            [(model, "serialization") for model in types.values()], ref_template=REFERENCE
        )
        schemas = {model.__name__: schema for (model, _), schema in names.items()}
        parts = page["components"]["schemas"]
        parts |= definitions["$defs"] | {"Refusal": ERROR}
        for name, field, value in EXTRA_VALUES:
            parts[name]["properties"][field]["enum"].append(value)
        for unused in ("HTTPValidationError", "ValidationError"):
            parts.pop(unused, None)
        for path, operations in page["paths"].items():
            for verb, operation in operations.items():
                operation["responses"] = _responses(verb, path, schemas)
        app.openapi_schema = page
    return app.openapi_schema


def _responses(verb: str, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if model := OBJECTS.get((verb, path)):
        content = {"application/json": {"schema": schemas[model.__name__]}}
    elif verb == "get" and path in LISTS:
        content = {"application/json": {"schema": _list_of(schemas[LISTS[path].__name__])}}
    elif path.endswith("/content"):
        content = {"application/octet-stream": {"schema": TEXT | {"format": "binary"}}}
    if path.endswith(("/completions", "/responses")):
        content["text/event-stream"] = {"schema": TEXT}
    error = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Refusal")}}}
    return {
        "200": {"description": "Done", "content": content},
        "4XX": {"description": "Refused", "content": error},
    }


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": schema},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        },
    }
