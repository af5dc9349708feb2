"""Open MLflow's store, create it, and repair its paths after the project was moved. Used by this package only.

Without tracking.uri the store is the project's folder mlruns/, which holds mlflow.db (SQLite) and the artifacts. A
stage in a temporary workspace of DVC writes to the repository that the workspace was made from. Another address, such
as http://host:5000, is used as it is.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from reviewtune.core.loopback import bypass_proxies, is_loopback
from reviewtune.core.project import project_root
from reviewtune.core.terminal.entry_point import rare_collections
from reviewtune.errors import TrackingError
from reviewtune.tracking.addresses import artifacts_address, below, database_address, database_path

if TYPE_CHECKING:
    from mlflow.entities import Run as StoredRun
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from reviewtune.core.config.config import TrackingConfig

Found = TypeVar("Found")

DATABASE = "mlflow.db"
LOCK_SECONDS = 120
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"  # read by MLflow when it opens a database; not documented

# Table and column of MLflow's database in which it stores absolute paths of artifacts.
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)

# The kind of experiment, by which some versions of MLflow's UI choose the page; that of 3.17 chooses by the link.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}

# Pattern in an error's text -> what the user can do about it; the first match counts.
NEXT_STEPS = (
    (r"full|no space", "free space"),
    (r"read-?only|permission denied", "make it writable"),
    (r"not a database|malformed|no such table", "move mlflow.db away, a new one is created"),
    (r"locked|lock .* could not", "wait for the other program that writes it, or stop it"),
    (r"does not answer", "start that server or correct tracking.uri"),
)


class Store:
    """An MlflowClient for one experiment that raises every error as a TrackingError of one line."""

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
        """The run, or None if it is not in this store or was deleted."""
        run = self._or_none(lambda: self._client.get_run(run_id))
        return run if run and run.info.lifecycle_stage == "active" else None

    def get_version_or_none(self, name: str, alias: str) -> "ModelVersion | None":
        """The version of a registered model that has the alias, or None if there is no such model or alias."""
        return self._or_none(lambda: self._client.get_model_version_by_alias(name, alias))

    def get_model_or_none(self, name: str) -> "RegisteredModel | None":
        """The registered model, or None if there is none with this name."""
        return self._or_none(lambda: self._client.get_registered_model(name))

    def _or_none(self, query: Callable[[], Found]) -> Found | None:
        from mlflow.exceptions import MlflowException

        with plain_errors(self.uri):
            try:
                return query()
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

    def _experiment(self, name: str) -> str:
        """The id of the experiment with this name, which is created or restored if necessary."""
        experiment = self.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self.create_experiment(name, tags=TRAINING_VIEW))
            except TrackingError:  # another process was faster
                experiment = self.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            self.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def open_store(settings: "TrackingConfig") -> Store:
    """The store and experiment that the settings name; opened once per process."""
    if settings.uri:
        address = below(project_root().resolve(), settings.uri)
        with artifacts_in(own_folder()) if address != settings.uri else nullcontext():
            return _remote(address, settings.experiment)
    return _own(own_folder(), settings.experiment)


@lru_cache
def _remote(uri: str, experiment: str) -> Store:
    if is_loopback(uri):
        bypass_proxies()
    return Store(uri, experiment)


@lru_cache
def _own(folder: Path, experiment: str) -> Store:
    """The project's own store. One process at a time creates, moves or upgrades it: MLflow has races on a new file."""
    with plain_errors(str(folder)), alone_in(folder):
        with artifacts_in(folder):
            if not (folder / DATABASE).exists():
                scratch = scratch_database(folder)
                Store(database_address(scratch), "Default")
                scratch.replace(folder / DATABASE)
            relocate(folder)
            store = Store(database_address(folder / DATABASE), experiment)
        relocate(folder)  # in case this version of MLflow ignores ARTIFACT_ROOT
        return store


@contextmanager
def artifacts_in(folder: Path) -> Iterator[None]:
    """Let new experiments keep their artifacts in this folder, not below the working directory."""
    before = os.environ.get(ARTIFACT_ROOT)
    os.environ[ARTIFACT_ROOT] = artifacts_address(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ARTIFACT_ROOT]
        else:
            os.environ[ARTIFACT_ROOT] = before


def _quiet() -> None:
    """Switch off telemetry, progress bars and log messages; MLflow reads these variables when it is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"  # it accepts no other spelling
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # files have a few kilobytes
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # else `reviewtune ui` starts 7 more processes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # with the default, 7, a missing server takes minutes
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("mlflow.pyfunc", "mlflow.store.model_registry"):  # what they do while a model is registered
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def as_default_store(store: Store) -> Iterator[None]:
    """Make the store the one that MLflow uses by default, in this process and for the block only."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[1])
        if before[0] is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


def own_folder() -> Path:
    """The project's mlruns/, which need not exist yet.

    Raises:
        TrackingError: the working directory is not in a project.
    """
    root = project_root()
    if not os.environ.get("DVC_ROOT") and not (root / "dvc.yaml").exists():
        raise TrackingError(
            f"no dvc.yaml in {Path.cwd()} or above: run this in the project's folder, or set tracking.uri"
        )
    return root.resolve() / "mlruns"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that only one process creates, moves or upgrades the store."""
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "mlflow.lock", timeout=LOCK_SECONDS):
        yield


def scratch_database(folder: Path) -> Path:
    """An empty database to fill and then rename, so that a killed process does not leave half a store.

    Writing to it first reports a full disk immediately; MLflow would try again for minutes.
    """
    scratch = folder / "mlflow.creating.db"
    scratch.unlink(missing_ok=True)
    with closing(sqlite3.connect(scratch)) as database:
        database.executescript("CREATE TABLE probe (x); DROP TABLE probe;")
    return scratch


def relocate(folder: Path) -> int:
    """After the project was moved, rewrite the absolute paths in the database to `folder`, the current mlruns/.

    The artifacts of an experiment in this store are in OLD/mlruns/ID, wherever that was; other addresses stay. MLflow
    stores such a path as it is but decodes it when it reads it, so a path with `%` is rewritten too. MLflow has no
    public function for this, so the SQL relies on a private part of it: the tables and columns in PATH_COLUMNS and the
    layout mlruns/EXPERIMENT_ID. tests/tracking/test_store.py notices a change of either in a new MLflow, as it compares
    PATH_COLUMNS with the columns of a new database and reads the artifacts of a moved project.

    Returns:
        The number of rewritten rows.
    """
    with closing(sqlite3.connect(folder / DATABASE, timeout=20)) as database, database:
        database.execute("BEGIN IMMEDIATE")  # reports immediately if the file cannot be written
        rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        own = [place.removesuffix(f"/{key}") for key, place in rows if place and place.endswith(f"/mlruns/{key}")]
        new = artifacts_address(folder)
        old_places = {place for place in own if "://" not in place} - {new}
        return sum(_replace_prefix(database, old, new) for old in old_places)


def _replace_prefix(database: sqlite3.Connection, old: str, new: str) -> int:
    statement = "UPDATE {0} SET {1} = ? || substr({1}, ?) WHERE substr({1}, 1, ?) = ?"
    values = (f"{new}/", len(old) + 2, len(old) + 1, f"{old}/")
    return sum(database.execute(statement.format(*column), values).rowcount for column in PATH_COLUMNS)


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """Raise errors of the store as a TrackingError that says in one line what failed, where, and what to do."""
    try:
        yield
    except Exception as error:
        if not _is_store_error(error):
            raise
        reason = _reason(error)
        steps = (step for pattern, step in NEXT_STEPS if re.search(pattern, reason, re.IGNORECASE))
        advice = next(steps, "fix that")
        raise TrackingError(
            f"MLflow store {readable(where)}: {reason}: {advice}, then run the same command again"
        ) from error


def _is_store_error(error: Exception) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError | sqlite3.Error) or bool(modules & {"mlflow", "sqlalchemy", "alembic"})


def _reason(error: Exception) -> str:
    """The database's message if the error contains one, else the first line."""
    if "Max retries exceeded" in str(error):
        return "the server does not answer"
    message = re.search(r"\(sqlite3\.\w+\) ([^\n\[]+)", str(error))
    reason = (message[1] if message else str(error).partition("\n")[0]).strip() or type(error).__name__
    return _masked(reason)[:300]


def readable(where: str) -> str:
    """An address to show: a file as its path, a password as ***."""
    return _masked(database_path(where))


def _masked(text: str) -> str:
    return re.sub(r"//[^@/\s]*@", "//***@", text)
