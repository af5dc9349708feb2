"""Find stored runs, read and change them, delete them."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from reviewtune.core.formatting import counted
from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.addresses import artifacts_path
from reviewtune.tracking.entities import TAG_LENGTH, batches
from reviewtune.tracking.runs import Run, RunRecord

if TYPE_CHECKING:
    from mlflow.entities import Run as StoredRun

    from reviewtune.core.config.config import TrackingConfig

DELETED_AT_ONCE = 20  # runs; an interruption leaves at most so many marked as deleted, but not removed


def find_runs(settings: "TrackingConfig", filter_string: str = "") -> list[RunRecord]:
    """The experiment's runs that match MLflow's filter, such as "tags.kind = 'evaluation'", newest first."""
    store = tracking_store.open_store(settings)
    runs: list[RunRecord] = []
    token = None
    while token != "":
        page = store.search_runs([store.experiment], filter_string, page_token=token)
        runs += map(_record, page)
        token = page.token or ""
    return runs


def stored_run(settings: "TrackingConfig", run_id: str) -> Run:
    """A run that has ended, to write more into it.

    Raises:
        TrackingError: no such run.
    """
    store = tracking_store.open_store(settings)
    return Run(store, store.get_run(run_id))


def find_run(settings: "TrackingConfig", run_id: str) -> RunRecord:
    """The run whose id is `run_id` or starts with it.

    Raises:
        TrackingError: there is no such run, or there are several.
    """
    matches = [run for run in find_runs(settings) if run.id.startswith(run_id)]
    if len(matches) == 1:
        return matches[0]
    hint = "the ids are in `reviewtune ui` and in the run.json files of reports/"
    count = counted(len(matches), "run") if matches else "no run"
    raise TrackingError(f"run {run_id!r}: {count} with that id in {settings.experiment!r}; {hint}")


def run_or_none(settings: "TrackingConfig", run_id: str) -> RunRecord | None:
    """The run with this id; None if it is not in this store, as when DVC restored a stage that ran elsewhere."""
    run = tracking_store.open_store(settings).get_run_or_none(run_id)
    return None if run is None else _record(run)


def artifact_of(settings: "TrackingConfig", run_id: str, name: str) -> Path:
    """A run's artifact as a local file.

    Raises:
        TrackingError: the run has no such artifact.
    """
    return Path(tracking_store.open_store(settings).download_artifacts(run_id, name))


def run_with_file(settings: "TrackingConfig", filter_string: str, path: Path) -> RunRecord | None:
    """The newest run that matches MLflow's filter and has an artifact of this file's name and content; None: no run."""
    content = path.read_bytes()
    runs = (run for run in find_runs(settings, filter_string) if path.name in artifacts_of(settings, run.id))
    return next((run for run in runs if artifact_of(settings, run.id, path.name).read_bytes() == content), None)


def artifacts_of(settings: "TrackingConfig", run_id: str, folder: str | None = None) -> set[str]:
    """Paths of a run's artifacts: those in one folder, or those in none."""
    return {artifact.path for artifact in tracking_store.open_store(settings).list_artifacts(run_id, folder)}


def artifacts_folder(settings: "TrackingConfig", run_id: str) -> Path:
    """The folder of a run's artifacts if they are on this machine; else a path that does not exist."""
    return artifacts_path(str(tracking_store.open_store(settings).get_run(run_id).info.artifact_uri))


def delete_runs(settings: "TrackingConfig", run_ids: Sequence[str]) -> None:
    """Delete runs and their artifacts for good.

    A store on a server only marks the runs as deleted; its owner removes them with `mlflow gc`.

    Raises:
        TrackingError: the store or `mlflow gc` failed; the same call again deletes the rest.
    """
    store = tracking_store.open_store(settings)
    for batch in batches(run_ids, DELETED_AT_ONCE):
        folders = {run_id: artifacts_folder(settings, run_id).parent for run_id in batch}
        for run_id in batch:
            store.delete_run(run_id)
        if not settings.uri:
            _collect_garbage(store, batch)
            _remove_folders(folders)


def _collect_garbage(store: tracking_store.Store, run_ids: Sequence[str]) -> None:
    """Remove runs that are marked as deleted from the database, and their files, with what `mlflow gc` calls.

    That command itself, in a process of its own, would import MLflow again: seven seconds on a slow machine.
    """
    from mlflow.cli import gc

    addresses = ["--backend-store-uri", store.uri, "--tracking-uri", store.uri]
    with tracking_store.as_default_store(store), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            gc.main([*addresses, "--run-ids", ",".join(run_ids), *_nothing_else(store)], standalone_mode=False)
        except Exception as error:
            message = (str(error).strip().splitlines() or ["it gave no reason"])[-1]
            raise TrackingError(
                f"`mlflow gc` could not remove the runs' files: {message}; run the same command again"
            ) from error


def _nothing_else(store: tracking_store.Store) -> list[str]:
    """Options that keep `mlflow gc` from experiments and logged models that somebody else marked as deleted.

    It removes all of them unless some are named, so one of each is made for it: empty, and marked as deleted.
    """
    experiment = store.create_experiment(f"for mlflow gc {uuid4().hex}")
    model = store.create_logged_model(experiment).model_id
    store.delete_logged_model(model)
    store.delete_experiment(experiment)
    return ["--experiment-ids", experiment, "--logged-model-ids", model]


def _remove_folders(folders: Mapping[str, Path]) -> None:
    """Remove the runs' folders (by run id) in the project's own store; `mlflow gc` leaves some of them behind."""
    store = tracking_store.own_folder()
    for run_id, folder in folders.items():
        if folder.name == run_id and folder.parent.parent == store:
            shutil.rmtree(folder, ignore_errors=True)


def add_to_pass(settings: "TrackingConfig", run_ids: Iterable[str], pass_id: str) -> list[str]:
    """Add a pass of the pipeline to the tag `passes` of its runs; a run that did not change is in many passes.

    All runs of a pass: "tags.passes LIKE '%PASS%'". A run keeps its newest passes, as many as fit into a tag.

    Returns:
        The ids of the tagged runs. A run is not in this store if DVC restored a stage that ran on a different machine.
    """
    store = tracking_store.open_store(settings)
    runs = {run.info.run_id: run for run in map(store.get_run_or_none, run_ids) if run}
    for run_id, run in runs.items():
        passes = [name for name in run.data.tags.get("passes", "").split(",") if name not in ("", pass_id)]
        joined = ",".join([*passes, pass_id])
        store.set_tag(run_id, "passes", joined[-TAG_LENGTH:].partition(",")[2] if len(joined) > TAG_LENGTH else joined)
    return list(runs)


def tag_experiment(settings: "TrackingConfig", tags: Mapping[str, str]) -> str:
    """Set those tags that the experiment does not have yet; returns the experiment's id."""
    store = tracking_store.open_store(settings)
    existing = store.get_experiment(store.experiment).tags
    for name, value in tags.items():
        if name not in existing:
            store.set_experiment_tag(store.experiment, name, value)
    return store.experiment


def replace_experiment_tags(settings: "TrackingConfig", tags: Mapping[str, str], *, beginning: tuple[str, ...]) -> None:
    """Set these tags of the experiment, and remove its other tags whose names begin in one of these ways."""
    store = tracking_store.open_store(settings)
    existing = store.get_experiment(store.experiment).tags
    for name in existing:
        if name.startswith(beginning) and name not in tags:
            with suppress(TrackingError):  # an older server cannot do that
                store.delete_experiment_tag(store.experiment, name)
    for name, value in tags.items():
        if existing.get(name) != value:
            store.set_experiment_tag(store.experiment, name, value)


def ui_command(settings: "TrackingConfig", port: int = 5000) -> list[str]:
    """The command that shows the project's own store at http://127.0.0.1:PORT; the store is created if necessary.

    Raises:
        TrackingError: the runs are on a server, which has its own UI.
    """
    if settings.uri:
        raise TrackingError(f"the runs are on {tracking_store.readable(settings.uri)}: open that address in a browser")
    store = tracking_store.open_store(settings)
    options = ["--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *options]


def _record(run: "StoredRun") -> RunRecord:
    return RunRecord(
        id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        ended=run.info.end_time / 1000 if run.info.end_time else None,
    )
