"""Runs of real stages in a real store: a run that was killed is continued and not created again."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from reviewtune.core.config.loading import compose_text
from reviewtune.sweeps.job import composed
from reviewtune.sweeps.run_job import prepare_job
from tests.support.serving import wait_for
from tests.support.sweep_project import edit, environment, make_project

BASELINE = [sys.executable, "stages/baseline.py", "majority"]


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project up to its splits; it is the working directory."""
    folder = make_project(project, tmp_path / "project", "some-model")
    monkeypatch.chdir(folder)
    job = composed(())
    prepare_job(job)
    shutil.copytree(job.splits.folder, folder / "data" / "splits")
    configure()
    return folder


def configure() -> None:
    Path("params.yaml").write_text(compose_text(conf=Path("conf")))


def runs() -> list[Any]:
    return list(MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").search_runs(["1"]))


def statuses(database: Path) -> list[str]:
    """Read without MLflow, which is too slow to catch the stage half-way."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        return [str(status) for (status,) in connection.execute("SELECT status FROM runs")]


def killed_half_way(folder: Path) -> None:
    process = subprocess.Popen(BASELINE, env=environment(folder, folder / "home"), stdout=subprocess.DEVNULL)
    wait_for(lambda: statuses(folder / "mlruns" / "mlflow.db") == ["RUNNING"], 120)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_an_evaluation_that_was_killed_is_continued_in_its_run(place: Path) -> None:
    killed_half_way(place)
    (left,) = runs()
    subprocess.run(BASELINE, env=environment(place, place / "home"), check=True)
    (run,) = runs()
    assert (run.info.run_id, run.info.status) == (left.info.run_id, "FINISHED")
    assert run.data.tags["process"] != left.data.tags["process"]
    assert run.data.metrics["n"] > 0
    assert run.data.tags["run_key"].startswith("evaluation:")

    subprocess.run(BASELINE, env=environment(place, place / "home"), check=True)
    assert len(runs()) == 2  # a run that ended is not continued


def test_different_settings_give_a_new_run(place: Path) -> None:
    killed_half_way(place)
    edit(place / "conf/config.yaml", "similarity: 0.9 ", "similarity: 0.91 ")
    configure()
    subprocess.run(BASELINE, env=environment(place, place / "home"), check=True)
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "RUNNING"]
    assert len({run.data.tags["run_key"] for run in runs()}) == 2
