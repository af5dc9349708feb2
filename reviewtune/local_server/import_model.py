"""Adds an adapter to an account as one of its models: python -m reviewtune.local_server.import_model.

So a machine that did not train a model can answer with it. Nothing changes if the account has the model already. A
server of the account offers the model at once. Errors are one line on standard error, as of every command.
"""

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from reviewtune.errors import ProviderError, one_line_errors
from reviewtune.local_server.engine.types import ADAPTER_CONFIG
from reviewtune.local_server.models.service import find_model
from reviewtune.local_server.settings import Settings
from reviewtune.local_server.storage.account import Account, open_account
from reviewtune.local_server.storage.tables import Model, now


def start(
    model: Annotated[str, typer.Option(help="the name that the account gives it")],
    base: Annotated[str, typer.Option(help="the base model that the adapter belongs to")],
    adapter: Annotated[Path, typer.Option(help="a folder in PEFT's format")],
    data_dir: Annotated[Path, typer.Option()],
    cache_dir: Annotated[Path, typer.Option()],
) -> None:
    """Add an adapter to an account."""
    with one_line_errors():
        if not (adapter / ADAPTER_CONFIG).is_file():
            raise ProviderError(f"{adapter} is not an adapter: it has no {ADAPTER_CONFIG}")
        account = open_account(Settings(data_dir, cache_dir))
        try:
            _add(account, model, base, adapter)
        finally:
            account.database.close()


def _add(account: Account, name: str, base: str, adapter: Path) -> None:
    with account.database.writing() as session:  # one writer at a time, so two imports make one copy
        if find_model(account, session, name) is None:
            _record(session, name, base, _copy(adapter, account.settings.models))


def _copy(adapter: Path, models: Path) -> str:
    """Copy the files into a new folder of `models`, complete or not at all; returns the folder's name."""
    scratch = Path(mkdtemp(prefix="import-", dir=models))
    try:
        shutil.copytree(adapter, scratch / "files")
        target = models / scratch.name.replace("import-", "imported-")
        (scratch / "files").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target.name


def _record(session: Session, name: str, base: str, folder: str) -> None:
    """A new row, or another folder for a model whose files are gone."""
    row = session.scalar(select(Model).where(Model.id == name))
    if row is None:
        session.add(Model(id=name, created_at=now(), base=base, folder=folder, job_id=""))
    else:
        row.folder, row.base = folder, base


def main() -> None:
    typer.run(start)


if __name__ == "__main__":
    main()
