"""The part of a Ray job that needs no cluster."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from hydra_plugins import reviewtune_ray
from reviewtune.sweeps import run_job

run_job.run_job = lambda job, progress: progress.message(job)
here = Path.cwd()
reviewtune_ray.run_one(reviewtune_ray.Shared({}, here, here), "\\ubc30\\uc1a1", 0)
"""


def test_the_output_of_a_job_holds_any_character_on_a_node_without_a_locale(project: Path, tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(project)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env={**os.environ, **plain}, check=True)
    assert "배송" in (tmp_path / "0" / "output.txt").read_text(encoding="utf-8")
