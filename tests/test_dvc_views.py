"""What DVC shows: one curve per arm in its plot, and a few numbers per arm in its tables."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

COVERAGE = "Accuracy of the surest reviews"


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def declared(project: Path) -> dict[str, Any]:
    declaration: dict[str, Any] = yaml.safe_load((project / "dvc.yaml").read_text())
    return declaration


@pytest.fixture
def plotted(project: Path, tmp_path: Path) -> dict[str, Any]:
    """The plots of dvc.yaml as DVC draws them, of a coverage table with two arms."""
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    shutil.copytree(project / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    plots = [plot for plot in declared(project)["plots"] if COVERAGE in plot]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    (tmp_path / "reports").mkdir()
    rows = [(arm, 0.9 - share, share, 1 - share) for arm in ("zero_shot", "finetuned") for share in (0.00005, 0.5, 1.0)]
    table = pd.DataFrame(rows, columns=["arm", "threshold", "coverage", "accuracy"])
    table.to_csv(tmp_path / "reports" / "coverage.csv", index=False)
    shown: dict[str, Any] = json.loads(dvc(tmp_path, "plots", "show", "--json"))["data"]
    return shown


def test_accuracy_against_coverage_has_one_curve_per_arm(plotted: dict[str, Any]) -> None:
    specification = plotted[COVERAGE][0]["content"]
    rows, encoding = specification["data"]["values"], specification["encoding"]
    assert {row["arm"] for row in rows} == {"zero_shot", "finetuned"}
    assert len(rows) == 6
    assert encoding["color"]["field"] == "arm"
    assert encoding["strokeDash"]["field"] == "rev"  # `dvc plots diff`
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("coverage", "accuracy")
    assert not any("aggregate" in channel for channel in encoding.values())
    assert "<DVC_METRIC" not in json.dumps(specification)
    # DVC passes text; as text, 5e-05 would come after 1.0
    assert specification["data"]["format"]["parse"]["coverage"] == "number"


def test_dvc_gets_short_metrics_files_only(project: Path) -> None:
    """`dvc exp show` makes a column of each number: with metrics.json there were 1,262."""
    stages = declared(project)["stages"].values()
    metrics = [file for stage in stages for file in {**stage, **stage.get("do", {})}.get("metrics", [])]
    names = {Path(path).name for file in metrics for path in ([file] if isinstance(file, str) else file)}
    assert names == {"summary.json", "run.json"}


def test_git_and_dvc_ignore_the_page_of_plots(project: Path) -> None:
    """`dvc plots show` writes dvc_plots/index.html."""
    for program in ("git", "dvc"):
        command = [program, "check-ignore", "dvc_plots/index.html"]
        assert subprocess.run(command, cwd=project, capture_output=True).returncode == 0, program
