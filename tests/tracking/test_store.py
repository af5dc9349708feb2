"""The store through moved folders, several processes, damaged files and full disks."""

import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pandas as pd
import pytest

from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import TrackingError
from reviewtune.tracking import queries
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.addresses import artifacts_address, artifacts_path
from tests.support.services import free_port
from tests.support.tracking import SETTINGS, open_run, stored

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


@pytest.fixture
def prepared_store() -> None:
    """Here MLflow itself creates each store."""


def test_four_processes_can_create_the_store_at_once(four_runs: Path) -> None:
    assert len(list((four_runs / "mlruns" / "1").iterdir())) == 4


def test_a_moved_project_keeps_its_runs_and_artifacts(moved_project: Path) -> None:
    """`moved_project` is a copy in another place, opened here for the first time."""
    runs = queries.find_runs(SETTINGS)
    assert {run.name for run in runs} == {f"child {number}" for number in range(4)}
    client = stored()
    for run in runs:
        where = artifacts_path(client.get_run(run.id).info.artifact_uri)
        assert where.is_relative_to(moved_project)
        assert [artifact.path for artifact in client.list_artifacts(run.id)] == ["name.txt"]
    with open_run() as new:
        new.text("new", "new.txt")
    assert (moved_project / "mlruns" / "1" / new.id / "artifacts" / "new.txt").exists()
    assert tracking_store.relocate(moved_project / "mlruns") == 0


NAMES = ("user name, 김철수 & it's", "a%20b 100%", "no. #1 what?", 'say "x"; b+c=[d] back\\slash')


@pytest.mark.parametrize("name", NAMES)
def test_a_project_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and artifacts are written, read and deleted in that folder; nothing appears next to it."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    monkeypatch.chdir(folder)
    with open_run() as kept, open_run() as deleted:
        for run in (kept, deleted):
            run.text(run.id, "id.txt")
    assert (folder / "mlruns" / "1" / kept.id / "artifacts" / "id.txt").read_text() == kept.id
    assert queries.artifact_of(SETTINGS, kept.id, "id.txt").read_text() == kept.id
    assert queries.artifacts_folder(SETTINGS, kept.id) == folder / "mlruns" / "1" / kept.id / "artifacts"
    queries.delete_runs(SETTINGS, [deleted.id])
    assert [run.id for run in queries.find_runs(SETTINGS)] == [kept.id]
    assert [path.name for path in (folder / "mlruns" / "1").iterdir()] == [kept.id]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sorted(path.name for path in folder.iterdir()) == ["dvc.yaml", "mlruns"]


def test_a_relative_file_in_tracking_uri_is_the_projects_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "notebooks").mkdir()
    settings = TrackingConfig(experiment="reviews", uri="sqlite:///runs.db?timeout=60")
    monkeypatch.chdir(tmp_path / "notebooks")
    with tracking_runs.open_run(settings, name="x", kind="sweep", tags={}) as run:
        run.text("what the artifact holds", "a.txt")
    assert (tmp_path / "runs.db").exists()
    assert [file.is_relative_to(tmp_path / "mlruns") for file in tmp_path.rglob("a.txt")] == [True]
    monkeypatch.chdir(tmp_path)
    assert [found.id for found in queries.find_runs(settings)] == [run.id]


def test_the_ui_shows_the_artifacts_of_a_project_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "user name, 김철수 100% %20 #1 what? a&b 'q' \"d\""
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    monkeypatch.chdir(folder)
    with open_run() as run:
        run.text("what the artifact holds", "a.txt")
    port = free_port()
    server = subprocess.Popen(queries.ui_command(SETTINGS, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        shown = _fetched(f"http://127.0.0.1:{port}/get-artifact?run_uuid={run.id}&path=a.txt")
    finally:
        server.terminate()
        server.wait(30)
    assert shown == "what the artifact holds"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def _fetched(address: str) -> str:
    """What the server answers, once it is up."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return httpx2.get(address, trust_env=False).raise_for_status().text
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_artifacts_in_a_bucket_keep_their_address_when_the_project_moves(moved_project: Path) -> None:
    with closing(sqlite3.connect(moved_project / "mlruns" / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = 's3://bucket/mlruns/1' WHERE experiment_id = 1")
    assert tracking_store.relocate(moved_project / "mlruns") == 1 + 4  # experiment 0 and the runs
    assert stored().get_experiment("1").artifact_location == "s3://bucket/mlruns/1"


def test_a_temporary_workspace_writes_to_the_repository(
    moved_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = moved_project / ".dvc" / "tmp" / "exps" / "one"
    workspace.mkdir(parents=True)
    (workspace / "dvc.yaml").touch()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("DVC_ROOT", str(moved_project))
    other = TrackingConfig(experiment="new experiment", uri=None)
    with tracking_runs.open_run(other, name="one", kind="finetune", tags={}) as run:
        run.text("text", "a.txt")
    assert not (workspace / "mlruns").exists()
    assert list((moved_project / "mlruns").glob(f"*/{run.id}/artifacts/a.txt"))


def test_outside_of_a_project_the_error_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=r"no dvc.yaml in .* or above: run this in the project's folder"):
        queries.find_runs(SETTINGS)


def test_a_deleted_experiment_comes_back(moved_project: Path) -> None:
    stored().delete_experiment("1")
    with open_run() as run:
        pass
    assert stored().get_run(run.id).info.experiment_id == "1"


def test_a_missing_server_is_one_line_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = TrackingConfig(experiment="x", uri="http://me:secret@127.0.0.1:9")
    message = (
        r"MLflow store http://\*\*\*@127.0.0.1:9: the server does not answer: start that server or correct tracking.uri"
    )
    with pytest.raises(TrackingError, match=message) as caught:
        queries.find_runs(nobody)
    assert "secret" not in str(caught.value)


def test_a_damaged_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("no database at all" * 100)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=r"mlruns: file is not a database: move mlflow.db away") as caught:
        queries.find_runs(SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line(four_runs: Path, tiny_disk: Path) -> None:
    shutil.copytree(four_runs / "mlruns", tiny_disk / "mlruns")
    with pytest.raises(TrackingError, match="No space left on device: free space") as caught, open_run() as run:
        run.text("x" * 4_000_000, "big.txt")
    assert "\n" not in str(caught.value)
    (tiny_disk / "fill").write_bytes(b"x" * (shutil.disk_usage(tiny_disk).free - 8192))
    with pytest.raises(TrackingError, match="database or disk is full: free space"), open_run() as run:
        run.params({f"key {number}": "x" * 5000 for number in range(90)})


def test_a_full_disk_leaves_no_half_store(tiny_disk: Path) -> None:
    (tiny_disk / "fill").write_bytes(b"x" * 2_900_000)
    with pytest.raises(TrackingError, match="database or disk is full: free space"):
        queries.find_runs(SETTINGS)
    assert not (tiny_disk / "mlruns" / "mlflow.db").exists()


def test_a_read_only_disk_is_one_line(four_runs: Path, tiny_disk: Path) -> None:
    shutil.copytree(four_runs / "mlruns", tiny_disk / "mlruns")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(TrackingError, match=r"Read-only file system.*: make it writable"):
        queries.find_runs(SETTINGS)


def test_mlflow_stores_paths_only_in_the_columns_that_are_rewritten(moved_project: Path) -> None:
    """The SQL of `relocate` depends on MLflow's tables; a new version may store paths in more places."""
    with open_run() as run:
        run.text("text", "a.txt")
        run.dataset(pd.DataFrame({"n": [1]}), name="test", digest="d", context="testing")
    with closing(sqlite3.connect(moved_project / "mlruns" / "mlflow.db")) as database:
        columns = [
            (table, column[1])
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for column in database.execute(f"PRAGMA table_info({table})").fetchall()
        ]
        holds_path = "SELECT count(*) FROM {0} WHERE instr(CAST({1} AS TEXT), ?) > 0"
        spellings = (str(moved_project), artifacts_address(moved_project))
        with_paths = {
            (table, column)
            for table, column in columns
            if any(database.execute(holds_path.format(table, column), (path,)).fetchone()[0] for path in spellings)
        }
    named_like_paths = {
        (table, name) for table, name in columns if name in ("artifact_location", "artifact_uri", "storage_location")
    }
    assert named_like_paths == set(tracking_store.PATH_COLUMNS)
    assert with_paths - {("tags", "value")} <= named_like_paths  # the tag `workspace` names the folder, too
    assert ("runs", "artifact_uri") in with_paths
