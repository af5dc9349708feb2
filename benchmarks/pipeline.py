"""Wall time and peak memory of the whole pipeline on this machine.

Run, in the project's folder after `make setup`: .venv/bin/python benchmarks/pipeline.py
It works on a copy of the project with a separate account: your results and models are not touched.
Prints wall time and peak memory of a full `dvc repro`, then a no-op `dvc repro` against `dvc status`, five times each.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from reviewtune.core.user_dirs import cache_folder

PROJECT = Path(__file__).parent.parent
SAMPLE_SECONDS = 0.25


class PeakMemory:
    """Highest sum of resident memory of a process, its children and the local provider's processes."""

    def __init__(self, home: Path) -> None:
        self.bytes, self._home, self._done = 0, home, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_resident, self._processes())))

    def _processes(self) -> set[psutil.Process]:
        everyone = psutil.process_iter(["cmdline"])
        servers = [one for one in everyone if str(self._home) in " ".join(one.info["cmdline"] or [])]
        roots = [psutil.Process(), *servers]
        return set(roots).union(*(_children(process) for process in roots))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch) / "clone", Path(scratch) / "home"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(folder)], check=True)
        env = _environment(home)
        with PeakMemory(home) as memory:
            seconds = _seconds(["dvc", "repro"], folder, env, shown=True)
        print(f"\nfull `dvc repro`: {seconds:.0f} s, peak memory {memory.bytes / 2**30:.1f} GiB over all processes")
        repro = [_seconds(["dvc", "repro"], folder, env) for _ in range(5)]
        status = [_seconds(["dvc", "status"], folder, env) for _ in range(5)]
        ratio = statistics.median(repro) / statistics.median(status)
        print(f"no-op `dvc repro`: {_spread(repro)}; `dvc status`: {_spread(status)}; ratio of medians {ratio:.2f}")
        _end_server(home)


def _environment(home: Path) -> dict[str, str]:
    """Share the weights with the user's cache: fetching them is part of set-up, not of the pipeline."""
    home.mkdir()
    cache = cache_folder()
    if cache.exists():
        (home / "cache").symlink_to(cache)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "REVIEWTUNE_HOME": str(home), "PATH": path, "DVC_NO_ANALYTICS": "1"}


def _seconds(command: list[str], folder: Path, env: dict[str, str], *, shown: bool = False) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=None if shown else subprocess.DEVNULL)
    return time.perf_counter() - started


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _end_server(home: Path) -> None:
    announced = home / "data" / "server.json"
    if announced.exists():
        process = psutil.Process(json.loads(announced.read_text())["pid"])
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    if shutil.which("git") is None:
        sys.exit("error: git is needed to copy the project")
    main()
