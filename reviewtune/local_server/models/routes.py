"""Models: the base models on offer, the fine-tunes and their checkpoints, and which folder a name stands for."""

import shutil
from typing import Any

from fastapi import APIRouter
from openai.types import ModelDeleted
from sqlalchemy import delete, or_, select

from reviewtune.local_server.models.service import BASE_CREATED, OWNER, get_model, model_object
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import CurrentAccount
from reviewtune.local_server.storage.tables import Checkpoint, Event, Job, Model

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_(account: CurrentAccount) -> dict[str, Any]:
    with account.database.reading() as session:
        tuned = session.scalars(select(Model).order_by(Model.seq)).all()
    bases = [model_object(name, BASE_CREATED, OWNER) for name in account.settings.offered]
    return {"object": "list", "data": bases + [model_object(row.id, row.created_at, "local") for row in tuned]}


@router.get("/{name:path}")
def retrieve(account: CurrentAccount, name: str) -> dict[str, Any]:
    get_model(account, name)
    with account.database.reading() as session:
        row = session.scalar(select(Model).where(Model.id == name))
    return model_object(name, row.created_at, "local") if row else model_object(name, BASE_CREATED, OWNER)


@router.delete("/{name:path}")
def remove(account: CurrentAccount, name: str) -> dict[str, Any]:
    """Delete a checkpoint, or a fine-tune together with its checkpoints, its steps and what its trainer needed."""
    if get_model(account, name).folder is None:
        message = f"The model '{name}' is a base model; only fine-tuned models can be deleted."
        raise ApiError(403, message, param="model", code="model_not_deletable")
    with account.database.writing() as session:
        mine = or_(Model.id == name, Model.id.startswith(f"{name}:ckpt-step-", autoescape=True))
        folders = session.scalars(select(Model.folder).where(mine)).all()
        job = session.scalar(select(Job.id).where(Job.output_model == name, Job.status == "succeeded"))
        session.execute(delete(Model).where(mine))
        if job:  # stays, and its story; its steps would fill the account's database, model after model
            session.execute(delete(Event).where(Event.job_id == job, Event.type == "metrics"))
            session.execute(delete(Checkpoint).where(Checkpoint.job_id == job))
    for folder in folders:
        shutil.rmtree(account.settings.models / folder, ignore_errors=True)
    if job:
        shutil.rmtree(account.settings.jobs / job, ignore_errors=True)
    return dump(ModelDeleted(id=name, deleted=True, object="model"))
