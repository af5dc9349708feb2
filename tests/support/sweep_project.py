"""A small copy of the project in its own folder: real conf/, reduced real data, a real server, a tiny model."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def make_project(source: Path, folder: Path, base_model: str) -> Path:
    """The files that a sweep needs, reduced: 12 reviews per label, one epoch."""
    for name in ("conf", "stages"):
        shutil.copytree(source / name, folder / name)
    (folder / "reviewtune").symlink_to(source / "reviewtune")
    shutil.copy(source / "dvc.yaml", folder)
    (folder / "data" / "raw").mkdir(parents=True)
    for path in (source / "data" / "raw").glob("*.csv"):
        shutil.copy(path, folder / "data" / "raw")
    shutil.copy(source / "data" / "frozen_splits.csv", folder / "data")
    shutil.copytree(source / "data" / "injections", folder / "data" / "injections")
    edit(folder / "conf/provider/local.yaml", r"base_model: \S+", f"base_model: {base_model}")
    edit(folder / "conf/config.yaml", "train_size: all", "train_size: 33")
    edit(folder / "conf/config.yaml", "test: 0.25", "test: 0.06")
    edit(folder / "conf/config.yaml", "validation: 0.2", "validation: 0.06")
    edit(folder / "conf/training/default.yaml", "n_epochs: auto", "n_epochs: 1")
    edit(folder / "conf/evaluation/default.yaml", "resamples: 10000", "resamples: 200")
    return folder


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text())
    assert count, f"{pattern} is not in {path}"
    path.write_text(text)


def sweep(folder: Path, home: Path, *overrides: str, ok: bool = True) -> str:
    """`python stages/sweep.py --multirun ...`: its output, standard error included."""
    done = subprocess.run(
        [sys.executable, "stages/sweep.py", "--multirun", *overrides],
        cwd=folder, env=environment(folder, home), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert (done.returncode == 0) == ok, done.stdout
    return done.stdout


def environment(folder: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "REVIEWTUNE_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
