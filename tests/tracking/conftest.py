"""A project with a store of four runs, and a small disk."""

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tracking import make_run

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="session")
def four_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store four processes created at once, each with one run."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - once here, instead of in every child

    folder = tmp_path_factory.mktemp("four_runs")
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
def moved_project(four_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project in a different folder, which is the working directory."""
    folder = tmp_path / "a project, 10% böse?"
    shutil.copytree(four_runs, folder)
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
