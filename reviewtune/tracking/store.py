"""The store of all runs: opened, made, moved with the project; its failures in plain words. For tracking.py alone.

Without an address in the settings it is the folder mlruns/: mlflow.db (SQLite) and the artifacts. It lies in $DVC_ROOT,
else in the folder above the working directory that holds dvc.yaml; so a stage in a temporary workspace of DVC writes to
the repository it came from. Another address, such as http://host:5000, is used as it is.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from filelock import FileLock

from reviewtune.core.entry_point import rare_collections
from reviewtune.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.entities import Run as StoredRun

    from reviewtune.core.config import TrackingConfig

DATABASE = "mlflow.db"
LOCK_SECONDS = 120

# Columns in which MLflow stores absolute paths of artifacts.
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)

# For UIs that go by an experiment's kind; that of MLflow 3.17 goes by the link, else by its own last page.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}

# What an error says -> what to do about it; the first that fits.
NEXT_STEPS = (
    (r"full|no space", "free space"),
    (r"read-?only|permission denied", "make it writable"),
    (r"not a database|malformed|no such table", "move mlflow.db away, a new one is made"),
    (r"locked|lock .* could not", "wait for the other program that writes it, or end it"),
    (r"does not answer", "start that server or mend tracking.uri"),
)


class Store:
    """An MlflowClient for one experiment; what it raises arrives as a TrackingError of one line."""

    def __init__(self, uri: str, experiment: str) -> None:
        _quiet()
        self.uri = uri
        with plain_errors(uri), rare_collections():
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = self._experiment(experiment)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def guarded(*args: object, **options: object) -> Any:  # noqa: ANN401 - MLflow is untyped
            with plain_errors(self.uri):
                return method(*args, **options)

        return guarded

    def get_run_or_none(self, run_id: str) -> "StoredRun | None":
        """The run, or None when this store does not hold it or it was deleted."""
        from mlflow.exceptions import MlflowException

        with plain_errors(self.uri):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment(self, name: str) -> str:
        found = self.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.create_experiment(name, tags=TRAINING_VIEW))
            except TrackingError:  # another process was faster
                found = self.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def open_store(settings: "TrackingConfig") -> Store:
    """The store that the settings name, with their experiment; opened once a process."""
    if settings.uri:
        return _remote(settings.uri, settings.experiment)
    return _own(folder(), settings.experiment)


@lru_cache
def _remote(uri: str, experiment: str) -> Store:
    return Store(uri, experiment)


@lru_cache
def _own(folder: Path, experiment: str) -> Store:
    """The project's store. One process at a time makes, moves or upgrades it: on a fresh file MLflow loses races."""
    with plain_errors(str(folder)), alone_in(folder):
        if not (folder / DATABASE).exists():
            scratch = scratch_database(folder)
            Store(uri(scratch), "Default")
            scratch.replace(folder / DATABASE)
        relocate(folder)
        store = Store(uri(folder / DATABASE), experiment)
        relocate(folder)  # MLflow puts a new experiment below the working directory
        return store


def _quiet() -> None:
    """MLflow reads these when imported; its telemetry also honours no other spelling than "true"."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for a file of some kilobytes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 takes minutes to say that no server is there
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def folder() -> Path:
    """The project's mlruns/, which need not exist yet."""
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve() / "mlruns"
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / "dvc.yaml").exists():
            return place / "mlruns"
    raise TrackingError(f"no dvc.yaml in {here} or above: run this in the project's folder, or set tracking.uri")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that one process at a time creates, moves or upgrades the store."""
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "mlflow.lock", timeout=LOCK_SECONDS):
        yield


def scratch_database(folder: Path) -> Path:
    """A fresh file to make the database in and rename when whole: a kill then leaves no half of one.

    Writing to it first shows a full disk at once; MLflow would try again for minutes.
    """
    scratch = folder / "mlflow.creating.db"
    scratch.unlink(missing_ok=True)
    with closing(sqlite3.connect(scratch)) as database:
        database.executescript("CREATE TABLE probe (x); DROP TABLE probe;")
    return scratch


def uri(database: Path) -> str:
    """The address by which MLflow opens the file; quoted, since it decodes % and cuts at ?."""
    return f"sqlite:///{quote(str(database))}"


def relocate(folder: Path) -> int:
    """After a move of the project: rewrite the stored absolute paths to `folder`, the mlruns/ of now.

    An experiment of this store lies in .../mlruns/ID, wherever that was; other addresses are left alone. Returns the
    number of rows rewritten.
    """
    with closing(sqlite3.connect(folder / DATABASE, timeout=20)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # also shows at once whether the file can be written
        rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        own = [place.removesuffix(f"/{key}") for key, place in rows if place and place.endswith(f"/mlruns/{key}")]
        old_places = {place for place in own if "://" not in place} - {str(folder)}
        return sum(_replace_prefix(database, old, str(folder)) for old in old_places)


def _replace_prefix(database: sqlite3.Connection, old: str, new: str) -> int:
    statement = "UPDATE {0} SET {1} = ? || substr({1}, ?) WHERE substr({1}, 1, ?) = ?"
    values = (f"{new}/", len(old) + 2, len(old) + 1, f"{old}/")
    return sum(database.execute(statement.format(*column), values).rowcount for column in PATH_COLUMNS)


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """What was seen, where, and what to do, in one line."""
    try:
        yield
    except Exception as error:
        if not _is_store_error(error):
            raise
        reason = _reason(error)
        steps = (step for pattern, step in NEXT_STEPS if re.search(pattern, reason, re.IGNORECASE))
        advice = next(steps, "mend that")
        raise TrackingError(
            f"MLflow store {readable(where)}: {reason}: {advice}, then run the same command again"
        ) from error


def _is_store_error(error: Exception) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError | sqlite3.Error) or bool(modules & {"mlflow", "sqlalchemy", "alembic"})


def _reason(error: Exception) -> str:
    """The database's own words where there are any, else the first line."""
    if "Max retries exceeded" in str(error):
        return "the server does not answer"
    words = re.search(r"\(sqlite3\.\w+\) ([^\n\[]+)", str(error))
    reason = (words[1] if words else str(error).partition("\n")[0]).strip() or type(error).__name__
    return _masked(reason)[:300]


def readable(where: str) -> str:
    """An address for people: a file as its path, a password as ***."""
    return _masked(unquote(where.removeprefix("sqlite:///")))


def _masked(text: str) -> str:
    return re.sub(r"//[^@/\s]*@", "//***@", text)
