"""Which process wrote a run, in which project and from which commit."""

import importlib.metadata
import os
import platform
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from reviewtune.errors import GitError, TrackingError
from reviewtune.tracking import git
from reviewtune.tracking.store import own_folder


def workspace() -> str | None:
    """A name for this project's folder that is unique on a shared MLflow server; None outside of a project."""
    with suppress(TrackingError):
        return f"{socket.gethostname()}:{own_folder().parent}"
    return None


def is_running(process: str) -> bool:
    """Whether the process that a run names in its tag `process` runs on this machine."""
    try:
        host, pid, start = process.rsplit(":", 2)
        return host == socket.gethostname() and f"{psutil.Process(int(pid)).create_time():.0f}" == start
    except (psutil.Error, ValueError):
        return False


def is_of_this_machine(process: str) -> bool:
    """Whether a process that a run or a model names in its tag `process` ran on this machine."""
    return process.startswith(f"{socket.gethostname()}:")


def standard_tags(kind: str) -> dict[str, object]:
    """The tags that every run gets: its kind, the commit, the stage, the versions and the process."""
    revision = git_revision(Path.cwd())
    stage = os.environ.get("DVC_STAGE")
    return {
        "kind": kind,
        "git_revision": revision,
        "mlflow.source.git.commit": revision,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": stage or Path(sys.argv[0]).name,
        "DVC_STAGE": stage,
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME"),
        "reviewtune_version": _version(),
        "python_version": platform.python_version(),
        "process": this_process(),
        "workspace": workspace(),
    }


def this_process() -> str:
    """This process's name on the network, with its start time since process ids are reused."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


@cache
def git_revision(folder: Path) -> str | None:
    """HEAD in the folder, or None without git; inside `dvc exp run` the experiment's baseline.

    Cached, because the process keeps running the code that it started with.
    """
    with suppress(GitError):
        return git.ask(folder, "rev-parse", "HEAD").strip()
    return None


def _version() -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("reviewtune")
    return None
