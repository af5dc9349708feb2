"""MLflow's store without runs, created once per test session: each creation takes two seconds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.addresses import database_address
from tests.support.session import session_folder

CREATE = tracking_store.scratch_database


def copies_of(template: Callable[[], Path]) -> Callable[[Path], Path]:
    """In the place of `scratch_database`, whose result MLflow then fills unless it has all tables already."""

    def scratch_database(folder: Path) -> Path:
        return Path(shutil.copy(template(), CREATE(folder)))

    return scratch_database


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Returns the database; made by the first test of all processes that opens a store."""
    folder = session_folder(tmp_path_factory) / "empty store" / "mlruns"

    def template() -> Path:
        database = folder / tracking_store.DATABASE
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not database.exists():
                _create(folder)
        return database

    return template


def _create(folder: Path) -> None:
    """As `reviewtune` does in a new project."""
    with tracking_store.artifacts_in(folder):
        scratch = CREATE(folder)
        tracking_store.Store(database_address(scratch), "Default")
    scratch.replace(folder / tracking_store.DATABASE)


@pytest.fixture(autouse=True)
def prepared_store(empty_store: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new project gets a copy. Tests of the creation itself replace this fixture."""
    monkeypatch.setattr(tracking_store, "scratch_database", copies_of(empty_store))
