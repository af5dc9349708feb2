"""Models: which folder a name stands for."""

from pathlib import Path
from typing import Any, NamedTuple

from openai.types import Model as ModelObject
from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import dump
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Model

OWNER = "reviewtune"
BASE_CREATED = 1_735_689_600  # base models are not made here; one fixed date keeps answers equal


class ModelSource(NamedTuple):
    """Where a model's weights are: a folder of the account, or a base model that may still have to be fetched."""

    name: str
    base: str
    folder: Path | None


def find_model(account: Account, session: Session, name: str) -> ModelSource | None:
    if name in account.settings.offered:
        return ModelSource(name, name, None)
    row = session.scalar(select(Model).where(Model.id == name))
    return None if row is None else ModelSource(name, row.base, account.settings.models / row.folder)


def get_model(account: Account, name: str) -> ModelSource:
    """The model that a chat asks for, or the refusal that OpenAI's clients know."""
    with account.database.reading() as session:
        source = find_model(account, session, name)
    if source is None:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise ApiError(404, message, param="model", code="model_not_found")
    return source


def model_object(name: str, created: int, owner: str) -> dict[str, Any]:
    return dump(ModelObject(id=name, created=created, object="model", owned_by=owner))
