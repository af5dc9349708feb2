"""Base models, fine-tunes and checkpoints: where each model's weights are, and what the API shows of it."""

import shutil
from pathlib import Path
from typing import NamedTuple

from openai.types import Model as ModelObject
from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models.model_folder import link_or_copy
from reviewtune.local_server.engine.types import ADAPTER_CONFIG, RESUME
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Checkpoint, Event, Job, Model

OWNER = "reviewtune"
BASE_CREATED = 1_735_689_600  # base models have no creation date; a fixed one keeps answers equal


class ModelSource(NamedTuple):
    """Where a model's weights are.

    Attributes:
        name: the model's name in the API.
        base: the base model that it was first trained from; a base model's own name.
        folder: the folder in the account, or None for a base model, which may still have to be fetched.
        is_adapter: whether the folder holds an adapter of the base model, not whole weights.
    """

    name: str
    base: str
    folder: Path | None
    is_adapter: bool = False

    @property
    def weights(self) -> str:
        """The model whose weights must be in memory; adapters of one base model share them."""
        return self.base if self.is_adapter else self.name


def find_model(account: Account, session: Session, name: str) -> ModelSource | None:
    """The model of that name or alias; None if there is none, or if its weights were removed from the disk."""
    name = account.settings.aliases.get(name, name)
    if name in account.settings.offered:
        return ModelSource(name, name, None)
    row = session.scalar(select(Model).where(Model.id == name))
    if row is None or not (account.settings.models / row.folder).is_dir():
        return None
    folder = account.settings.models / row.folder
    return ModelSource(name, row.base, folder, (folder / ADAPTER_CONFIG).is_file())


def link_model(model: Path, folder: Path) -> None:
    """Give a job its own hold on a model's files, so that deleting the model does not break it.

    Args:
        model: the model's folder.
        folder: the folder to make.
    """
    folder.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.name != RESUME:
            link_or_copy(file, folder / file.name)


def check_aliases(account: Account) -> None:
    """Refuse names for models that are not there, before the first request asks for one.

    Raises:
        ProviderError: there is no such model.
    """
    aliases = account.settings.aliases
    with account.database.reading() as session:
        for name, model in aliases.items():
            if model in aliases or find_model(account, session, model) is None:
                offered = ", ".join(account.settings.offered)
                advice = f"base models are {offered}; --base-model adds another, and fine-tunes have their whole name"
                raise ProviderError(f"--alias {name}={model}: there is no model {model!r}; {advice}")


def get_model(account: Account, name: str) -> ModelSource:
    """The model of that name.

    Raises:
        ApiError: 404, there is no such model.
    """
    with account.database.reading() as session:
        source = find_model(account, session, name)
    if source is None:
        raise _not_found(name)
    return source


def _not_found(name: str) -> ApiError:
    message = f"The model `{name}` does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")


def model_objects(account: Account) -> list[ModelObject]:
    """All models as the API shows them: base models, aliases, then fine-tunes and checkpoints by age."""
    with account.database.reading() as session:
        rows = session.scalars(select(Model).order_by(Model.seq)).all()
    names = (*account.settings.offered, *account.settings.aliases)
    return [*map(_base_object, names), *map(_row_object, rows)]


def retrieve_model(account: Account, name: str) -> ModelObject:
    """One model as the API shows it.

    Raises:
        ApiError: 404, there is no such model.
    """
    get_model(account, name)
    with account.database.reading() as session:
        row = session.scalar(select(Model).where(Model.id == name))
    return _row_object(row) if row else _base_object(name)


def _base_object(name: str) -> ModelObject:
    return ModelObject(id=name, created=BASE_CREATED, object="model", owned_by=OWNER)


def _row_object(row: Model) -> ModelObject:
    return ModelObject(id=row.id, created=row.created_at, object="model", owned_by="local")


def delete_model(account: Account, name: str) -> None:
    """Delete a checkpoint, or a fine-tune with its checkpoints, its metrics and its trainer's files.

    Raises:
        ApiError: there is no such model (404), or it is a base model (403).
    """
    if name in account.settings.offered:
        message = f"The model '{name}' is a base model; only fine-tuned models can be deleted."
        raise ApiError(403, message, param="model", code="model_not_deletable")
    with account.database.writing() as session:
        if session.scalar(select(Model.id).where(Model.id == name)) is None:  # its weights need not be there
            raise _not_found(name)
        same = or_(Model.id == name, Model.id.startswith(f"{name}:ckpt-step-", autoescape=True))
        folders = session.scalars(select(Model.folder).where(same)).all()
        job = session.scalar(select(Job.id).where(Job.output_model == name, Job.status == "succeeded"))
        session.execute(delete(Model).where(same))
        if job:  # the job and its messages stay; its metrics would fill the database, model after model
            session.execute(delete(Event).where(Event.job_id == job, Event.type == "metrics"))
            session.execute(delete(Checkpoint).where(Checkpoint.job_id == job))
    for folder in folders:
        shutil.rmtree(account.settings.models / folder, ignore_errors=True)
    if job:
        shutil.rmtree(account.settings.jobs / job, ignore_errors=True)
