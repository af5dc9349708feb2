"""Writes a model of an account into a folder: python -m reviewtune.local_server.export.

The account is only read, whether its server runs or not. Standard output gets one JSON object per line: messages while
a base model is fetched, then what is known about the model (`Facts`), at the end its `turns`. Errors are one line on
standard error, as of every command.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from reviewtune.errors import ProviderError, one_line_errors
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE
from reviewtune.local_server.models.service import ModelSource, find_model
from reviewtune.local_server.settings import Settings, prepare_torch
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import Database, File, Job, Model

SHOWN = 10  # models that an error lists
MARGIN = 1.05  # of the free space, for what the estimate does not know


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a model.

    Attributes:
        base: the base model's name.
        base_folder: where its files are.
        is_adapter: whether the account holds an adapter of the base model.
        size: bytes that will be written.
        job_id: the fine-tuning job; empty for a base model, as the next two.
        training_sha256: hash of the training file.
        training_file: its path; empty also if it was removed.
    """

    base: str
    base_folder: str
    is_adapter: bool
    size: int
    job_id: str = ""
    training_sha256: str = ""
    training_file: str = ""


def start(
    model: Annotated[str, typer.Option()],
    target: Annotated[Path, typer.Option(help="an existing, empty folder")],
    data_dir: Annotated[Path, typer.Option()],
    cache_dir: Annotated[Path, typer.Option()],
    base_model: Annotated[list[str] | None, typer.Option()] = None,
    adapter: Annotated[bool, typer.Option("--adapter")] = False,
) -> None:
    """Write a model as a folder that other programs open."""
    prepare_torch()
    settings = Settings(data_dir, cache_dir, base_models=tuple(base_model or ()))
    with one_line_errors():
        _export(settings, model, target, adapter=adapter)


def _export(settings: Settings, name: str, target: Path, *, adapter: bool) -> None:
    found, facts = _look_up(settings, name)
    if adapter and not found.is_adapter:
        raise ProviderError(f"{name} is stored as whole weights, so there is no adapter; export it without --adapter")
    from reviewtune.local_server.engine import export  # torch takes seconds to import, so only here
    from reviewtune.local_server.engine.base_models.ensure import base_of_adapter, ensure

    is_new = found.folder is None and found.base in CATALOGUE and not (settings.cache_dir / found.base).is_dir()
    if is_new and (notice := CATALOGUE[found.base].notice):
        _say(notice)
    folder = found.folder or ensure(found.base, settings.cache_dir, _say)
    base = base_of_adapter(folder, found.base, settings.cache_dir, _say) if found.is_adapter else None
    source = export.Source(folder, base)
    size = export.size_of(source, adapter=adapter)
    _refuse_full_disk(target, size)
    _print(asdict(facts) | {"base_folder": str(source.files.resolve()), "size": size})
    _print(asdict(export.write(source, target, adapter=adapter)))


def _look_up(settings: Settings, name: str) -> tuple[ModelSource, Facts]:
    """The model, and what the account knows about it.

    Raises:
        ProviderError: there is no such model, or its weights are gone.
    """
    if name in settings.offered:
        return ModelSource(name, name, None), Facts(name, "", False, 0)
    path = settings.data_dir / "account.db"
    if not path.is_file():
        raise ProviderError(f"there is no model '{name}': there is no account in {settings.data_dir}; run `dvc repro`")
    account = Account(settings, Database.read_only(path))
    with account.database.reading() as session:
        row = session.scalar(select(Model).where(Model.id == name))
        if row is None:
            raise _unknown(name, list(session.scalars(select(Model.id).order_by(Model.seq.desc()))), settings)
        found = find_model(account, session, name)
        if found is None:
            place = settings.models / row.folder
            raise ProviderError(f"the weights of {name} are gone: there is no folder {place}; fine-tune it again")
        job = session.scalar(select(Job).where(Job.id == row.job_id))
        file = session.scalar(select(File).where(File.id == job.training_file)) if job else None
    training = settings.jobs / row.job_id / "training.jsonl"
    known = {"job_id": row.job_id, "training_sha256": file.sha256 if file else ""}
    path_of_training = str(training) if training.is_file() else ""
    return found, Facts(found.base, "", found.is_adapter, 0, training_file=path_of_training, **known)


def _unknown(name: str, names: list[str], settings: Settings) -> ProviderError:
    shown = [*names[:SHOWN], *CATALOGUE]
    more = f" and {len(names) - SHOWN} older ones" if len(names) > SHOWN else ""
    return ProviderError(
        f"there is no model '{name}' in the account {settings.data_dir}; it has {', '.join(shown)}{more}; "
        "`reviewtune jobs list` shows which job made which model"
    )


def _refuse_full_disk(target: Path, size: int) -> None:
    free = shutil.disk_usage(target).free
    if free < size * MARGIN:
        need, left = size * MARGIN / 1e9, free / 1e9
        where = f"{target.parent} has {left:.2f} GB free"
        raise ProviderError(f"the export needs {need:.2f} GB, but {where}; free some space or name another folder")


def _say(message: str) -> None:
    _print({"message": message})


def _print(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    typer.run(start)


if __name__ == "__main__":
    main()
