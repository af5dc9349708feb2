"""Clones of the project as users have them, after a first `dvc repro`: everything is real except the model's size.

Test files take copies, so that the pass runs once, however many processes run the tests.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
import pytest
from filelock import FileLock

from tests.support import warm_commands
from tests.support.session import session_folder

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")


class Clone:
    """A folder with a git repository of the project, and a separate account next to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder.with_name(f"{folder.name}-home")
        self.env = {**os.environ, "REVIEWTUNE_HOME": str(self.home), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
        self.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    @classmethod
    def of(cls, source: Path, folder: Path, base_model: Path) -> Self:
        """A clone of the working tree at `source`, shrunk; without the developer's own results."""
        clone = cls(folder)
        names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=source, text=True)
        for name in names.splitlines():
            if (source / name).is_file() and not name.startswith(("reports/", "dvc.lock")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, folder / name)
        clone.edit("conf/provider/local.yaml", r"base_model: \S+", f"base_model: {base_model}")
        clone.edit("conf/config.yaml", "train_size: all", "train_size: 66")
        clone.edit("conf/config.yaml", "test: 0.25", "test: 0.06")
        clone.edit("conf/config.yaml", "validation: 0.2", "validation: 0.08")
        clone.edit("conf/training/default.yaml", "n_epochs: auto", "n_epochs: 2")
        clone.edit("conf/arm/few_shot.yaml", "shots: 4", "shots: 2")  # the tiny model spells letter by letter
        clone.write_params()
        clone.git("init", "-q")
        clone.commit("shrunk")
        return clone

    def copy(self, folder: Path) -> Self:
        """The clone and its account at another place."""
        shutil.copytree(self.folder, folder, symlinks=True)
        other = type(self)(folder)
        shutil.copytree(self.home, other.home, symlinks=True)
        return other

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The running command, in its own session."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=env or self.env, start_new_session=True, **output)  # type: ignore[call-overload, no-any-return]

    def run(self, *command: str, ok: bool = True) -> str:
        """Output of a command; fails the test if the exit status is unexpected."""
        env = warm_commands.with_warm_trainings(self.env)
        if command[0] in ("python", "reviewtune"):
            words = command[1:] if command[0] == "python" else ("-m", *command)
            status, shown = warm_commands.python(words, self.folder, env)
        else:
            process = self.start(*command, env=warm_commands.with_warm_stages(env))
            shown, _ = process.communicate()
            status = process.returncode
        assert (status == 0) == ok, shown
        return shown

    def git(self, *command: str) -> str:
        return self.run("git", *WHO, *command)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def put_back(self) -> None:
        """Everything as committed, data and model included."""
        self.git("checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")

    def repro(self, *options: str) -> list[str]:
        """Names of the stages that ran."""
        return stages_run(self.run("dvc", "repro", *options))

    def edit(self, name: str, pattern: str, replacement: str) -> None:
        text, count = re.subn(pattern, replacement, (self.folder / name).read_text())
        assert count, f"{pattern} is not in {name}"
        (self.folder / name).write_text(text)

    def write_params(self) -> None:
        """`make params`"""
        self.run("python", "stages/check_config.py", "--write")

    def set_epochs(self, number: int) -> None:
        self.edit("conf/training/default.yaml", r"n_epochs: \w+", f"n_epochs: {number}")

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def runs(self, filter_string: str = "") -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db")
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(ids, filter_string))

    def jobs(self) -> int:
        """Fine-tuning jobs in the account."""
        with sqlite3.connect(self.home / "data" / "account.db") as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            (table,) = [name for name in tables if name.rstrip("s") == "job"]
            return int(database.execute(f"select count(*) from {table}").fetchone()[0])

    def end_server(self) -> None:
        announced = self.home / "data" / "server.json"
        if announced.exists():
            process = psutil.Process(json.loads(announced.read_text())["pid"])
            process.terminate()
            process.wait(30)


class FirstPass(NamedTuple):
    """Two clones after one `dvc repro`, without a commit since, and the first one's output."""

    first: Clone
    second: Clone
    shown: str


def stages_run(shown: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", shown)


@pytest.fixture(scope="session")
def first_pass(project: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> FirstPass:
    """Made by the first test process that needs it; the two clones run in parallel."""
    folder = session_folder(tmp_path_factory) / "pass"
    shown = folder / "shown.txt"
    with FileLock(f"{folder}.lock"):
        if not shown.exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(tiny_model, folder / "tiny")
            shown.write_text(_run_both([Clone.of(project, folder / name, folder / "tiny") for name in "ab"]))
    return FirstPass(Clone(folder / "a"), Clone(folder / "b"), shown.read_text())


def _run_both(clones: list[Clone]) -> str:
    processes = [clone.start("dvc", "repro") for clone in clones]
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for clone in clones:
            clone.end_server()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs[0]


@pytest.fixture(scope="module")
def clone(first_pass: FirstPass, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """The test file's own clone, after its first pass."""
    clone = first_pass.first.copy(tmp_path_factory.mktemp("user") / "clone")
    yield clone
    clone.end_server()


@pytest.fixture(scope="module")
def committed(clone: Clone) -> Clone:
    """The same, its first results committed."""
    clone.commit("first results")
    return clone
