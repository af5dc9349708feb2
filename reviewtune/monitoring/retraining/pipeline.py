"""Run `dvc repro` as a process of its own, which a killed command leaves behind and the next one waits for."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from reviewtune.errors import DataError
from reviewtune.tracking.process import is_running, process_name

PAUSE_SECONDS = 0.5


def wait_for(process: str) -> None:
    """Wait until the process ends; `process` is its name as of `process_name`."""
    while is_running(process):
        time.sleep(PAUSE_SECONDS)


def run_pipeline(root: Path, *, note: Callable[[str | None], None], output: TextIO) -> None:
    """Run `dvc repro`.

    Args:
        root: the project's folder.
        note: is called with the name of the process when it runs, and with None when it has ended.
        output: a real file, for what DVC and the stages print.

    Raises:
        DataError: it failed; its message is in the output.
    """
    _remove_empty_lock(root)
    output.flush()
    command = [sys.executable, "-m", "dvc", "repro"]
    process = subprocess.Popen(command, cwd=root, env=_environment(), stdout=output)
    note(process_name(process.pid))
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it got Ctrl-C too; what it writes while it ends must not meet the next command
        raise
    finally:
        note(None)
    if status:
        raise DataError("`dvc repro` failed, its message is above; correct that, then the same command continues")


def _remove_empty_lock(root: Path) -> None:
    """DVC that was killed while it wrote dvc.lock leaves it empty and refuses it; finished work is found without it."""
    lock = root / "dvc.lock"
    if lock.exists() and not lock.stat().st_size:
        lock.unlink()


def _environment() -> dict[str, str]:
    """The stages run this Python, also if cron started the command by its path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
