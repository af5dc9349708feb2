"""Stages on the command line: --help explains the stage, a wrong argument is an error in one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reviewtune.core.entry_point import run_stage


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/checkpoint.py", *request.param.split()])


def start() -> list[tuple[int, bool]]:
    calls: list[tuple[int, bool]] = []
    run_stage(lambda epoch, *, write: calls.append((epoch, write)), "Stage checkpoint: a -> b", epoch=int, write=bool)
    return calls


@pytest.mark.parametrize(("typed", "called"), [("3", (3, False)), ("3 --write", (3, True))], indirect=["typed"])
@pytest.mark.usefixtures("typed")
def test_the_arguments_reach_the_stage(called: tuple[int, bool]) -> None:
    assert start() == [called]


@pytest.mark.parametrize(
    ("typed", "message"),
    [("", "required: EPOCH"), ("x", "invalid int value: 'x'"), ("1 2", "unrecognized arguments: 2")],
    indirect=["typed"],
)  # fmt: skip
@pytest.mark.usefixtures("typed")
def test_wrong_arguments_are_one_line_with_the_usage(message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        start()
    assert message in str(caught.value)
    assert "usage: python stages/checkpoint.py" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["--help"], indirect=True)
@pytest.mark.usefixtures("typed")
def test_help_says_what_the_stage_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        start()
    assert "Stage checkpoint: a -> b" in capsys.readouterr().out


def test_missing_reviews_are_reported_with_the_next_step(project: Path, tmp_path: Path) -> None:
    """The first stage reports it, because DVC would only name the file."""
    shutil.copytree(project / "conf", tmp_path / "conf")
    shutil.copy(project / "params.yaml", tmp_path)
    command = [sys.executable, str(project / "stages/check_config.py")]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: data/raw/reviews_en.csv: no such file; put the labelled reviews there, or correct"
    )
    assert not (tmp_path / "reports").exists()
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/reviews_en.csv.dvc").touch()  # a file that DVC tracks may not be pulled yet
    assert subprocess.run(command, cwd=tmp_path).returncode == 0


def test_an_unknown_arm_is_reported_with_the_existing_ones(project: Path) -> None:
    command = [sys.executable, "stages/baseline.py", "nosucharm"]
    done = subprocess.run(command, cwd=project, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: arm 'nosucharm' is not one of: majority, linear, ")
