"""Which process wrote a run, in which project and from which commit."""

import importlib.metadata
import os
import platform
import socket
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from reviewtune.core.user_dirs import is_started_at, start_of
from reviewtune.errors import GitError, TrackingError
from reviewtune.tracking import git
from reviewtune.tracking.store import own_folder

ABANDONED_SECONDS = 7 * 24 * 60 * 60  # in which a process of another machine has ended
BOOT_DIGITS = 8  # of the random id that Linux gives each start of the machine


def workspace() -> str | None:
    """A name for this project's folder that is unique on a shared MLflow server; None outside of a project."""
    with suppress(TrackingError):
        return f"{socket.gethostname()}:{own_folder().parent}"
    return None


def is_running(process: str) -> bool:
    """Whether the process that a run names in its tag `process` runs on this machine."""
    try:
        _, pid, start = process.rsplit(":", 2)
        found = psutil.Process(int(pid))
        is_same = is_of_this_machine(process) and is_started_at(found, float(start))
        return is_same and found.status() != psutil.STATUS_ZOMBIE  # a zombie has ended; nobody has asked how
    except (psutil.Error, ValueError):
        return False


def may_run(process: str) -> bool:
    """Whether a process may still run: one of this machine is looked up, any other may for a week after its start.

    After a restart, or in a new container, this machine counts as another one.
    """
    if is_of_this_machine(process):
        return is_running(process)
    try:
        return time.time() - float(process.rsplit(":", 1)[-1]) < ABANDONED_SECONDS
    except ValueError:
        return True  # nothing is known of it


def is_of_this_machine(process: str) -> bool:
    """Whether a process that a run or a model names in its tag `process` ran on this machine since it was started.

    Then this process would see it if it were still running.
    """
    return process.rsplit(":", 2)[0] == machine()


@cache
def machine() -> str:
    """The machine's name and what tells it from others of that name, as containers often have the same one.

    Two containers on one machine do not see each other's processes, and process ids repeat. On Linux the start of the
    machine and the namespace of process ids are therefore part of it.
    """
    start, processes = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{socket.gethostname()}:{start.read_text()[:BOOT_DIGITS]}-{processes.stat().st_ino:x}"
    return socket.gethostname()


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
    return process_name(os.getpid())


def process_name(pid: int) -> str:
    """As `this_process`, of a process of this machine that runs."""
    return f"{machine()}:{pid}:{start_of(psutil.Process(pid)):.0f}"


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
