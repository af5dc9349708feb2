"""The routes below /v1/models: list, look up and delete. They take no bodies, so there are no request models."""

from typing import Any

from fastapi import APIRouter
from openai.types import ModelDeleted

from reviewtune.local_server.models.service import delete_model, model_objects, retrieve_model
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import CurrentAccount

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_(account: CurrentAccount) -> dict[str, Any]:
    return {"object": "list", "data": [dump(model) for model in model_objects(account)]}


@router.get("/{name:path}")
def retrieve(account: CurrentAccount, name: str) -> dict[str, Any]:
    return dump(retrieve_model(account, name))


@router.delete("/{name:path}")
def remove(account: CurrentAccount, name: str) -> dict[str, Any]:
    """Delete a checkpoint, or a fine-tune with its checkpoints, its metrics and its trainer's files."""
    delete_model(account, name)
    return dump(ModelDeleted(id=name, deleted=True, object="model"))
