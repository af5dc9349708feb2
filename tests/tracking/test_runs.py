"""Runs in a real store, read back through MLflow itself; processes that die, folders that move, disks that are full."""

import math
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.config import TrackingConfig
from reviewtune.errors import TrackingError
from reviewtune.tracking import queries
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking import store as tracking_store

SETTINGS = TrackingConfig(experiment="reviews", uri=None)
FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


def in_child(task: Callable[..., None], *args: object) -> int:
    """Run the task in a process of its own; its exit code."""
    child = FORK.Process(target=task, args=args)
    child.start()
    child.join(60)
    return child.exitcode if child.exitcode is not None else 99


def make_run(name: str) -> None:
    with tracking_runs.open_run(SETTINGS, name=name, kind="evaluation", tags={}) as run:
        run.metrics({"accuracy": 0.5})
        run.text(name, "name.txt")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store four processes made at once, each leaving a run."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - once here, instead of in every child

    folder = tmp_path_factory.mktemp("made")
    (folder / "dvc.yaml").touch()
    here = Path.cwd()
    os.chdir(folder)
    children = [FORK.Process(target=make_run, args=(f"child {number}",)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    os.chdir(here)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, so moved from where it was made; it is the working directory."""
    folder = tmp_path / "a project, 10% böse?"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project on a disk of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    (disk / "dvc.yaml").touch()
    monkeypatch.chdir(disk)
    yield disk
    os.chdir(tmp_path)
    subprocess.run(["umount", "-l", disk], check=True)


def stored() -> Any:
    """MLflow's own client on the store of the working directory."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_store.uri(tracking_store.folder() / "mlflow.db"))


def open_run(**options: Any) -> Any:
    return tracking_runs.open_run(SETTINGS, **{"name": "a run", "kind": "evaluation", "tags": {}, **options})


def test_four_processes_on_a_fresh_store_all_succeed(made: Path) -> None:
    assert len(list((made / "mlruns" / "1").iterdir())) == 4


def test_everything_written_is_read_back(project: Path) -> None:
    frame = pd.DataFrame({"text": ["배송이 늦어요", "ok"], "n": [1, 2]})
    curve = pd.DataFrame({"step": range(1, 2501), "train_loss": 1.5, "valid_loss": [math.nan] * 2499 + [0.25]})
    with open_run(tags={"arm": "finetuned", "nothing": None}) as run:
        run.params({"training": {"n_epochs": 3, "labels": ["배송", "b"]}, "seed": None, "path": Path("x")})
        run.metrics({"accuracy": {"value": 0.9, "low": None}, "loss": math.nan}, step=2)
        run.series(curve, "step")
        run.artifact(project / "dvc.yaml", "files")
        run.text("grüße", "notes/hello.txt")
        run.json({"label": "배송"}, "answer.json")
        run.table(frame, "predictions.json")
        run.dataset(frame, name="test", digest="0123456789" * 6, context="testing")
    client = stored()
    back = client.get_run(run.id)
    assert back.info.status == "FINISHED"
    assert back.data.params == {
        "training.n_epochs": "3", "training.labels": '["배송", "b"]', "seed": "null", "path": '"x"'
    }  # fmt: skip
    assert back.data.metrics == {"accuracy.value": 0.9, "train_loss": 1.5, "valid_loss": 0.25}
    assert [point.step for point in client.get_metric_history(run.id, "train_loss")] == list(range(1, 2501))
    assert [point.step for point in client.get_metric_history(run.id, "valid_loss")] == [2500]
    assert back.data.tags["arm"] == "finetuned"
    assert "nothing" not in back.data.tags
    inputs = back.inputs.dataset_inputs[0]
    assert (inputs.dataset.name, inputs.dataset.digest) == ("test", "012345678901234567890123456789012345")
    assert inputs.tags[0].value == "testing"
    artifacts = project / "mlruns" / back.info.experiment_id / run.id / "artifacts"
    assert {path.name for path in artifacts.iterdir()} == {"files", "notes", "answer.json", "predictions.json"}
    assert (artifacts / "notes" / "hello.txt").read_text(encoding="utf-8") == "grüße"
    assert "배송이 늦어요" in (artifacts / "predictions.json").read_text(encoding="utf-8")
    assert '{"path": "predictions.json", "type": "table"}' in back.data.tags["mlflow.loggedArtifacts"]
    assert pd.read_json(artifacts / "predictions.json", orient="split").equals(frame)


def test_standard_tags(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "evaluate")
    monkeypatch.setenv("DVC_EXP_NAME", "wobbly-stone")
    subprocess.run(["git", "init", "-q"], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with open_run(kind="finetune", parent="f" * 32) as run:
        pass
    tags = stored().get_run(run.id).data.tags
    assert tags["git_revision"] == tags["mlflow.source.git.commit"] == revision
    assert (tags["DVC_STAGE"], tags["DVC_EXP_NAME"], tags["kind"]) == ("evaluate", "wobbly-stone", "finetune")
    assert tags["mlflow.parentRunId"] == "f" * 32
    assert tags["python_version"] == sys.version.split()[0]


def test_names_and_values_that_mlflow_would_refuse(project: Path) -> None:
    with open_run() as run:
        run.params({"a=b": 1, "x": {"//y": 2}, "n" * 300: 3, "long": "z" * 9000})
    params = stored().get_run(run.id).data.params
    assert (params["a-3db"], params["x.-2f-2fy"]) == ("1", "2")
    assert sorted(map(len, params)) == [4, 5, 9, 217]
    assert len(params["long"]) == 6000
    assert "(9000 characters, sha256 " in params["long"]


def test_text_is_no_metric(project: Path) -> None:
    with pytest.raises(TypeError, match=r"metric a\.b: '0.5' is no number"), open_run() as run:
        run.metrics({"a": {"b": "0.5"}})


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("boom"), "FAILED", "ValueError: boom"),
        (SystemExit("bad"), "FAILED", "SystemExit: bad"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ],
)
def test_a_failure_is_kept_and_passed_on(project: Path, error: BaseException, status: str, message: str) -> None:
    with pytest.raises(type(error)), open_run() as run:
        raise error
    back = stored().get_run(run.id)
    assert (back.info.status, back.data.tags["error"]) == (status, message)
    assert back.info.end_time


def killed(key: str) -> None:
    with open_run(run_key=key) as run:
        run.params({"seed": 1})
        run.series(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0]}), "step")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_is_continued(project: Path) -> None:
    key = "sweep prompt='a b' \"c\" `d`"  # what a filter could not hold
    assert in_child(killed, key) == -signal.SIGKILL
    (left,) = queries.find_runs(SETTINGS, "attributes.status = 'RUNNING'")
    with open_run(run_key=key) as run:
        run.params({"seed": 1})
        run.series(pd.DataFrame({"step": [1, 2, 3], "loss": [2.0, 1.0, 0.5]}), "step")
        with open_run(run_key=key) as other:
            assert other.id != run.id  # a live process keeps its own
    assert run.id == left.id
    assert stored().get_run(run.id).info.status == "FINISHED"
    assert [point.value for point in stored().get_metric_history(run.id, "loss")] == [2.0, 1.0, 0.5]
    with open_run(run_key=key) as third:
        assert third.id not in (run.id, other.id)  # a finished run is not continued


def test_what_is_noted_together_is_written_at_the_end_at_once(project: Path) -> None:
    with open_run() as run:
        with run.together():
            run.params({f"p{number}": number for number in range(250)})
            with run.together():
                run.metrics({"accuracy": 0.5})
                run.series(pd.DataFrame({"step": range(2000), "loss": 1.0}), "step")
            run.tags({"arm": "zero_shot"})
            run.dataset(pd.DataFrame({"n": [1]}), name="test", digest="d", context="testing")
            before = stored().get_run(run.id)
        run.metrics({"f1": 0.5})
        after = stored().get_run(run.id)
    assert (before.data.params, before.data.metrics, before.inputs.dataset_inputs) == ({}, {}, [])
    assert after.data.params == {f"p{number}": str(number) for number in range(250)}
    assert after.data.metrics == {"accuracy": 0.5, "loss": 1.0, "f1": 0.5}
    assert after.data.tags["arm"] == "zero_shot"
    assert len(stored().get_metric_history(run.id, "loss")) == 2000
    assert len(after.inputs.dataset_inputs) == 1


def test_what_was_noted_before_a_failure_is_kept(project: Path) -> None:
    with suppress(TypeError), open_run() as run, run.together():
        run.metrics({"accuracy": 0.5})
        run.metrics({"f1": "no number"})
    back = stored().get_run(run.id)
    assert (back.info.status, back.data.metrics) == ("FAILED", {"accuracy": 0.5})


def name_new_datasets(barrier: Any, names: list[str]) -> None:
    with open_run() as run:
        for start in range(0, len(names), 2):
            barrier.wait(60)
            with run.together():
                for name in names[start : start + 2]:
                    run.dataset(pd.DataFrame({"n": [1]}), name=name, digest="d", context="testing")


def test_runs_that_name_the_same_new_data_set_at_the_same_moment(project: Path) -> None:
    names, barrier = [str(number) for number in range(20)], FORK.Barrier(4)
    children = [FORK.Process(target=name_new_datasets, args=(barrier, names)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    runs = [run for run in stored().search_runs(["1"]) if run.inputs.dataset_inputs]
    assert [sorted(one.dataset.name for one in run.inputs.dataset_inputs) for run in runs] == [sorted(names)] * 4


def test_another_value_for_a_param_is_refused_in_one_line(project: Path) -> None:
    with open_run() as run:
        run.params({"seed": 1})
        with pytest.raises(TrackingError, match="Changing param values is not allowed") as caught:
            run.params({"seed": 2})
    assert "\n" not in str(caught.value)


def test_a_moved_store_is_whole(project: Path) -> None:
    """`project` is a copy in another place, opened here for the first time."""
    runs = queries.find_runs(SETTINGS)
    assert {run.name for run in runs} == {f"child {number}" for number in range(4)}
    client = stored()
    for run in runs:
        where = Path(client.get_run(run.id).info.artifact_uri)
        assert where.is_relative_to(project)
        assert [found.path for found in client.list_artifacts(run.id)] == ["name.txt"]
    with open_run() as new:
        new.text("new", "new.txt")
    assert (project / "mlruns" / "1" / new.id / "artifacts" / "new.txt").exists()
    assert tracking_store.relocate(project / "mlruns") == 0


def test_relocating_leaves_other_addresses_alone(project: Path) -> None:
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = 's3://bucket/mlruns/1' WHERE experiment_id = 1")
    assert tracking_store.relocate(project / "mlruns") == 1 + 4  # experiment 0 and the runs
    assert stored().get_experiment("1").artifact_location == "s3://bucket/mlruns/1"


def test_a_temporary_workspace_writes_to_the_repository(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = project / ".dvc" / "tmp" / "exps" / "one"
    workspace.mkdir(parents=True)
    (workspace / "dvc.yaml").touch()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("DVC_ROOT", str(project))
    other = TrackingConfig(experiment="new experiment", uri=None)
    with tracking_runs.open_run(other, name="one", kind="finetune", tags={}) as run:
        run.text("text", "a.txt")
    assert not (workspace / "mlruns").exists()
    assert list((project / "mlruns").glob(f"*/{run.id}/artifacts/a.txt"))


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=r"no dvc.yaml in .* or above: run this in the project's folder"):
        queries.find_runs(SETTINGS)


def test_a_deleted_experiment_comes_back(project: Path) -> None:
    stored().delete_experiment("1")
    with open_run() as run:
        pass
    assert stored().get_run(run.id).info.experiment_id == "1"


def test_runs_of_a_pass(project: Path) -> None:
    first, second = (run.id for run in queries.find_runs(SETTINGS)[:2])
    stored().delete_run(queries.find_runs(SETTINGS)[3].id)
    assert queries.add_to_pass(SETTINGS, [first, second, "no-such-run", "f" * 32], "aa11") == [first, second]
    assert queries.add_to_pass(SETTINGS, [first], "bb22") == [first]
    assert queries.add_to_pass(SETTINGS, [first], "bb22") == [first]
    assert {run.id for run in queries.find_runs(SETTINGS, "tags.passes LIKE '%aa11%'")} == {first, second}
    (run,) = queries.find_runs(SETTINGS, "tags.passes LIKE '%bb22%'")
    assert run.tags["passes"] == "aa11,bb22"
    for number in range(3):
        queries.add_to_pass(SETTINGS, [first], str(number) * 3000)
    passes = stored().get_run(first).data.tags["passes"].split(",")
    assert [len(one) for one in passes] == [3000, 3000]


def test_a_bad_filter_is_one_line(project: Path) -> None:
    with pytest.raises(TrackingError, match=r"MLflow store .*mlflow.db: Invalid") as caught:
        queries.find_runs(SETTINGS, "this is no filter")
    assert "\n" not in str(caught.value)


def test_the_ui_is_loopback_and_on_this_store(project: Path) -> None:
    command = queries.ui_command(SETTINGS, port=5005)
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5005"
    assert command[command.index("--backend-store-uri") + 1] == tracking_store.uri(project / "mlruns" / "mlflow.db")
    with pytest.raises(TrackingError, match=r"the runs are on http://\*\*\*@host:1: open"):
        queries.ui_command(TrackingConfig(experiment="x", uri="http://me:secret@host:1"))


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = TrackingConfig(experiment="x", uri="http://me:secret@127.0.0.1:9")
    message = (
        r"MLflow store http://\*\*\*@127.0.0.1:9: the server does not answer: start that server or mend tracking.uri"
    )
    with pytest.raises(TrackingError, match=message) as caught:
        queries.find_runs(nobody)
    assert "secret" not in str(caught.value)


def test_a_damaged_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("no database at all" * 100)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=r"mlruns: file is not a database: move mlflow.db away") as caught:
        queries.find_runs(SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_full_disk(made: Path, tiny_disk: Path) -> None:
    shutil.copytree(made / "mlruns", tiny_disk / "mlruns")
    with pytest.raises(TrackingError, match="No space left on device: free space") as caught, open_run() as run:
        run.text("x" * 4_000_000, "big.txt")
    assert "\n" not in str(caught.value)
    (tiny_disk / "fill").write_bytes(b"x" * (shutil.disk_usage(tiny_disk).free - 8192))
    with pytest.raises(TrackingError, match="database or disk is full: free space"), open_run() as run:
        run.params({f"key {number}": "x" * 5000 for number in range(90)})


def test_a_full_disk_before_there_is_a_store(tiny_disk: Path) -> None:
    (tiny_disk / "fill").write_bytes(b"x" * 2_900_000)
    with pytest.raises(TrackingError, match="database or disk is full: free space"):
        queries.find_runs(SETTINGS)
    assert not (tiny_disk / "mlruns" / "mlflow.db").exists()


def test_a_read_only_disk(made: Path, tiny_disk: Path) -> None:
    shutil.copytree(made / "mlruns", tiny_disk / "mlruns")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(TrackingError, match=r"Read-only file system.*: make it writable"):
        queries.find_runs(SETTINGS)
