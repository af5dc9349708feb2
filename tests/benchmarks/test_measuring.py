"""What the benchmarks measure is that of the process they name, and no option of theirs is ignored."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
BENCHMARKS = PROJECT / "benchmarks"


def run(*words: str | Path, cwd: Path = PROJECT, **environment: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(PROJECT), str(BENCHMARKS)])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_the_report_of_the_monitor_survives_an_edit() -> None:
    """Its rows belong to a number that is raised when verdicts change, not to a hash of sources."""
    done = run(sys.executable, BENCHMARKS / "monitoring.py", "--report")
    assert done.returncode == 0, done.stderr
    assert "| nothing | 200 | 0.015 (0.005 to 0.043) | 0.050" in done.stdout
