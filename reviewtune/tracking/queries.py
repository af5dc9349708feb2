"""Find runs and what they hold."""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.runs import PARAMS_A_BATCH, TAG_LENGTH, Run, RunRecord, _batches, _record

if TYPE_CHECKING:
    from reviewtune.core.config import TrackingConfig


def find_runs(settings: "TrackingConfig", filter_string: str = "") -> list[RunRecord]:
    """The experiment's runs that fit MLflow's filter, such as "tags.kind = 'evaluation'", newest first."""
    store, found, token = tracking_store.open_store(settings), [], None
    while token != "":
        page = store.search_runs([store.experiment], filter_string, page_token=token)
        found += [_record(run) for run in page]
        token = page.token or ""
    return found


def stored_run(settings: "TrackingConfig", run_id: str) -> Run:
    """A run that has ended, to write more into it.

    Raises:
        TrackingError: no such run.
    """
    store = tracking_store.open_store(settings)
    return Run(store, store.get_run(run_id))


def find_run(settings: "TrackingConfig", run_id: str) -> RunRecord:
    """The run of this id, or of the one id that starts so.

    Raises:
        TrackingError: none or several.
    """
    found = [run for run in find_runs(settings) if run.id.startswith(run_id)]
    if len(found) == 1:
        return found[0]
    hint = "the ids are in `reviewtune ui` and in the run.json files of reports/"
    raise TrackingError(f"run {run_id!r}: {len(found) or 'no'} run(s) with that id in {settings.experiment!r}; {hint}")


def artifact_of(settings: "TrackingConfig", run_id: str, name: str) -> Path:
    """A run's artifact as a local file.

    Raises:
        TrackingError: the run has no such artifact.
    """
    return Path(tracking_store.open_store(settings).download_artifacts(run_id, name))


def artifacts_of(settings: "TrackingConfig", run_id: str) -> set[str]:
    """Names of a run's artifacts."""
    return {found.path for found in tracking_store.open_store(settings).list_artifacts(run_id)}


def artifacts_folder(settings: "TrackingConfig", run_id: str) -> Path:
    """Where a run's artifacts lie, when that is on this machine; else a path that does not exist."""
    return Path(str(tracking_store.open_store(settings).get_run(run_id).info.artifact_uri).removeprefix("file://"))


def delete_runs(settings: "TrackingConfig", run_ids: Sequence[str]) -> None:
    """Remove runs and their artifacts for good. A store on a server only marks them: its owner runs `mlflow gc`."""
    store = tracking_store.open_store(settings)
    folders = [artifacts_folder(settings, run_id).parent for run_id in run_ids]
    for run_id in run_ids:
        store.delete_run(run_id)
    if run_ids and not settings.uri:
        where = ["--backend-store-uri", store.uri, "--tracking-uri", store.uri]
        command = [sys.executable, "-m", "mlflow", "gc", *where, "--run-ids"]
        for batch in _batches(run_ids, PARAMS_A_BATCH):
            done = subprocess.run([*command, ",".join(batch)], capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["no word"])[-1]
                raise TrackingError(f"`mlflow gc` could not remove the runs' files: {said}; run the same command again")
        for folder in folders:
            if not any(path.is_file() for path in folder.rglob("*")):  # `gc` leaves the run's folder itself
                shutil.rmtree(folder, ignore_errors=True)


def add_to_pass(settings: "TrackingConfig", run_ids: Iterable[str], pass_id: str) -> list[str]:
    """Note in the tag `passes` that these runs belong to one pass of the pipeline, so an unchanged run can be in many.

    Returns the ids that were noted: the store does not know one when DVC restored a stage that ran on another machine.
    All runs of a pass: "tags.passes LIKE '%PASS%'". A run keeps its newest passes, as many as fit into a tag.
    """
    store = tracking_store.open_store(settings)
    known = {run.info.run_id: run for run in map(store.get_run_or_none, run_ids) if run}
    for run_id, run in known.items():
        passes = [one for one in run.data.tags.get("passes", "").split(",") if one not in ("", pass_id)]
        joined = ",".join([*passes, pass_id])
        store.set_tag(run_id, "passes", joined[-TAG_LENGTH:].partition(",")[2] if len(joined) > TAG_LENGTH else joined)
    return list(known)


def tag_experiment(settings: "TrackingConfig", tags: Mapping[str, str]) -> str:
    """Give the experiment those tags that it has not yet; returns its id."""
    store = tracking_store.open_store(settings)
    known = store.get_experiment(store.experiment).tags
    for key, value in tags.items():
        if key not in known:
            store.set_experiment_tag(store.experiment, key, value)
    return store.experiment


def ui_command(settings: "TrackingConfig", port: int = 5000) -> list[str]:
    """The command that shows the project's own store at http://127.0.0.1:PORT; it prepares the store first."""
    if settings.uri:
        raise TrackingError(f"the runs are on {tracking_store.readable(settings.uri)}: open that address in a browser")
    store = tracking_store.open_store(settings)
    options = ["--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *options]
