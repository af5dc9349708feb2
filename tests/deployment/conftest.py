"""A project with two baselines that were evaluated: everything about promotion, without a language model."""

import subprocess
from pathlib import Path

import pytest

from tests.support.clones import Clone

STAGES = """
import runpy, sys
for words in ("prepare", "split", "baseline majority", "baseline linear"):
    sys.argv = [f"stages/{words.split()[0]}.py", *words.split()[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def evaluated(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """All in git; the reference arm is majority."""
    clone = Clone.of(project, tmp_path_factory.mktemp("evaluated") / "project", Path("no-model"))
    clone.edit("conf/config.yaml", "train_size: 66", "train_size: all")
    clone.edit("conf/config.yaml", "test: 0.06", "test: 0.25")
    clone.edit("conf/config.yaml", "validation: 0.08", "validation: 0.2")
    clone.edit("conf/evaluation/default.yaml", "reference: zero_shot", "reference: majority")
    clone.write_params()
    clone.commit("settings")
    clone.env["PYTHONPATH"] = str(clone.folder)
    clone.run("python", "-c", STAGES)
    clone.commit("results")
    return clone


@pytest.fixture
def linear_project(evaluated: Clone, tmp_path: Path) -> Clone:
    """A copy of it."""
    evaluated.home.mkdir(exist_ok=True)
    copy = evaluated.copy(tmp_path / "project")
    copy.env["PYTHONPATH"] = str(copy.folder)
    return copy


def reviewtune(clone: Clone, *words: str, ok: bool = True) -> str:
    """What the command prints, as a person runs it."""
    return clone.run("python", "-m", "reviewtune", *words, ok=ok)


def changed_files(clone: Clone) -> list[str]:
    words = ["git", "status", "--porcelain"]
    return subprocess.check_output(words, cwd=clone.folder, text=True).split("\n")[:-1]
