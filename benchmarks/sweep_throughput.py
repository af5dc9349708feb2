"""A sweep of short jobs at a hosted provider on Ray: how near it comes to the ideal, and where the rest goes.

    python benchmarks/sweep_throughput.py --jobs 16 --workers 8 --job-seconds 2

The provider stands on loopback (remote_provider.py): a fine-tuning job takes a fixed time, an answer none. The ideal is
what its waiting alone takes: 16 jobs of 2 s, 8 at once, are 4 s. The real thing also splits the data, tracks, draws and
scores; that is CPU time of this machine, so the number of cores is printed beside it. Ray's start and the workers'
imports, paid once a sweep, are reported apart, and so is the check of all combinations before the first job.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from mlflow import MlflowClient

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))  # tests/ are no package of the installation

from tests.support.scale import hosted  # noqa: E402
from tests.support.sweep_project import environment, make_project  # noqa: E402


def main() -> None:
    options = _options()
    ideal = -(-options.jobs // options.workers) * options.job_seconds
    cores = len(os.sched_getaffinity(0))
    print(
        f"{options.jobs} jobs of {options.job_seconds:g} s, {options.workers} at once, {cores} cores: ideal {ideal:g} s"
    )
    for round_ in range(options.rounds):
        with tempfile.TemporaryDirectory() as scratch, hosted(options.job_seconds) as provider:
            folder = make_project(PROJECT, Path(scratch) / "project", "m")
            words = [*provider.overrides, f"training.seed={','.join(map(str, range(1, options.jobs + 1)))}"]
            words += [f"hydra/launcher={options.launcher}"]
            words += [f"hydra.launcher.workers={options.workers}"] if options.launcher == "ray" else []
            words += [f"hydra.launcher.n_jobs={options.workers}"] if options.launcher == "joblib" else []
            _report(round_, folder, words, ideal)


def _report(round_: int, folder: Path, words: list[str], ideal: float) -> None:
    began = time.time()
    shown, spent = _sweep(folder, words)
    whole = time.time() - began
    runs = _jobs(folder)
    started = sorted(run.info.start_time / 1000 - began for run in runs)
    ended = sorted(run.info.end_time / 1000 - began for run in runs)
    jobs, seconds = ended[-1] - started[0], sorted((run.info.end_time - run.info.start_time) / 1000 for run in runs)
    print(
        f"round {round_ + 1}: first job's start to last job's end {jobs:.1f} s, ratio to the ideal {jobs / ideal:.2f}"
    )
    print(f"  a job, median {seconds[len(seconds) // 2]:.1f} s; whole command {whole:.1f} s, ratio {whole / ideal:.2f}")
    checked, ready = _when(shown, "checked:"), _when(shown, "Ray:")
    print(f"  before the first job {started[0]:.1f} s: checked after {checked}, Ray ready after {ready}")
    at_start = max((total for at, total in spent if at <= started[0]), default=0.0)
    at_end = max(total for at, total in spent if at <= ended[-1] + 1)
    print(
        f"  CPU time of its processes: {at_start:.0f} s before the first job, {at_end - at_start:.0f} s during the jobs"
    )
    print(f"  load average of the machine {os.getloadavg()[0]:.1f}", flush=True)


def _sweep(folder: Path, words: list[str]) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Its lines and when each came, and the CPU time of all its processes so far; in seconds from the start."""
    began, seen = time.time(), {}
    command = [sys.executable, "stages/sweep.py", "--multirun", *words]
    where: dict[str, Any] = {"cwd": folder, "env": environment(folder, folder / "home")}
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where) as process:
        spent: list[tuple[float, float]] = []
        sampler = Thread(target=_sample, args=(process.pid, began, spent), daemon=True)
        sampler.start()
        assert process.stdout is not None
        for line in process.stdout:
            seen[line.strip()] = time.time() - began
    sampler.join()
    if process.returncode:
        sys.exit("\n".join(seen))
    return seen, spent


def _sample(pid: int, began: float, spent: list[tuple[float, float]]) -> None:
    used: dict[int, float] = {}
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while root.status() != psutil.STATUS_ZOMBIE:
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    used[process.pid] = sum(process.cpu_times()[:2])
            spent.append((time.time() - began, sum(used.values())))
            time.sleep(0.5)


def _when(seen: dict[str, float], start: str) -> str:
    return next((f"{seconds:.1f} s" for line, seconds in seen.items() if re.match(start, line)), "-")


def _jobs(folder: Path) -> list[Any]:
    store = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    ids = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(ids, "tags.kind = 'job'"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--job-seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launcher", default="ray", choices=["ray", "joblib", "basic"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
