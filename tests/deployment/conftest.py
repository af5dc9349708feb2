"""A project with two baselines that were evaluated: everything about promotion, without a language model."""

import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.clones import Clone
from tests.support.session import session_folder

STAGES = """
import runpy, sys
for words in ("prepare", "split", "baseline majority", "baseline linear"):
    sys.argv = [f"stages/{words.split()[0]}.py", *words.split()[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def evaluated(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """All in git; the reference arm is majority. Made by the first test process that needs it."""
    folder = session_folder(tmp_path_factory) / "evaluated"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _evaluate(Clone.of(project, folder / "project", Path("no-model")))
            (folder / "complete").touch()
    return _with_own_code(Clone(folder / "project"))


def _evaluate(clone: Clone) -> None:
    clone.edit("conf/config.yaml", "train_size: 66", "train_size: all")
    clone.edit("conf/config.yaml", "test: 0.06", "test: 0.25")
    clone.edit("conf/config.yaml", "validation: 0.08", "validation: 0.2")
    clone.edit("conf/evaluation/default.yaml", "reference: zero_shot", "reference: majority")
    clone.write_params()
    clone.commit("settings")
    _with_own_code(clone).run("python", "-c", STAGES)
    clone.commit("results")
    clone.home.mkdir()


def _with_own_code(clone: Clone) -> Clone:
    clone.env["PYTHONPATH"] = str(clone.folder)
    return clone


@pytest.fixture
def linear_project(evaluated: Clone, tmp_path: Path) -> Clone:
    """A copy of it."""
    return _with_own_code(evaluated.copy(tmp_path / "project"))


def reviewtune(clone: Clone, *words: str, ok: bool = True) -> str:
    """What the command prints, as a person runs it."""
    return clone.run("python", "-m", "reviewtune", *words, ok=ok)


def changed_files(clone: Clone) -> list[str]:
    words = ["git", "status", "--porcelain"]
    return subprocess.check_output(words, cwd=clone.folder, text=True).split("\n")[:-1]
