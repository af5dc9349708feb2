"""Stages on the command line: --help explains the stage, a wrong argument is an error in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reviewtune.core.terminal.entry_point import run_stage
from tests.support.sweep_project import edit


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
    """The first stage reports it, because DVC would only name the file. A file of conf/data may have any name."""
    shutil.copytree(project / "conf", tmp_path / "conf")
    (tmp_path / "conf/data/reviews_en.yaml").rename(tmp_path / "conf/data/mine.yaml")
    edit(tmp_path / "conf/config.yaml", "data: reviews_en", "data: mine")
    shutil.copy(project / "params.yaml", tmp_path)
    command = [sys.executable, str(project / "stages/check_config.py")]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: data/raw/reviews_en.csv: no such file; put the labelled reviews there, or correct "
        "`path` in conf/data/mine.yaml line "
    )
    assert not (tmp_path / "reports").exists()
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/reviews_en.csv.dvc").touch()  # a file that DVC tracks may not be pulled yet
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert done.stderr.startswith(
        "error: data/frozen_splits.csv: no such file, without which all reviews would be split"
    )
    shutil.copy(project / "data/frozen_splits.csv", tmp_path / "data")
    assert subprocess.run(command, cwd=tmp_path).returncode == 0


def test_an_unknown_arm_is_reported_with_the_existing_ones(project: Path) -> None:
    command = [sys.executable, "stages/baseline.py", "nosucharm"]
    done = subprocess.run(command, cwd=project, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: arm 'nosucharm' is not one of: majority, linear, ")


SHOWING = """
import sys
from reviewtune.core.terminal.entry_point import program
with program():
    print("\\u22123.5 points \\u2013 \\ud55c\\uad6d\\uc5b4 \\u2026")
    print("\\u2265 2 \\udced", file=sys.stderr)
"""


def started(
    code: str, *, stdout: int | None = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("encoding", "korean"),
    [("latin-1", "???"), ("ascii", "???"), ("cp949", "한국어"), ("utf-8", "한국어")],
)
def test_characters_that_the_terminal_lacks_are_replaced(encoding: str, korean: str) -> None:
    done = started(SHOWING, PYTHONIOENCODING=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    shown = done.stdout.decode(encoding).strip()
    assert korean in shown
    assert shown == "−3.5 points – 한국어 …" or shown.startswith("-3.5 points - ")  # the sign is never lost
    assert done.stderr.startswith((b">= 2", "≥ 2".encode(encoding, "replace")))


def test_the_c_locale_is_enough() -> None:
    done = started(SHOWING, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stdout.decode("ascii").strip()) == (0, "-3.5 points - ??? ...")


PRINTING = """
import sys, time
from reviewtune.core.terminal.entry_point import program
with program():
    for number in range(int(sys.argv[1])):
        print("line", number, flush=bool(number % 2))
"""


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("printing", ["print", "rich"])
def test_a_reader_that_closes_the_pipe_causes_no_message(lines: int, printing: str) -> None:
    code = (
        PRINTING if printing == "print" else PRINTING.replace("print(", "Console().print(").replace(", flush=", ", x=")
    )
    code = code.replace("import sys, time", "import sys, time; from rich.console import Console").replace(
        ", x=", ") or ("
    )
    command = [sys.executable, "-c", code, str(lines)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) in (0, 1)
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_with_what_helps() -> None:
    with Path("/dev/full").open("w") as full:
        done = started("import sys; sys.argv.append('1')\n" + PRINTING, stdout=full.fileno())
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: No space left on device: free some space, `reviewtune clean` shows what could go, ")


def test_a_broken_connection_is_not_taken_for_a_closed_pipe() -> None:
    start = "from reviewtune.core.terminal.entry_point import program\n"
    code = start + "with program():\n    raise BrokenPipeError(32, 'Broken pipe')"
    done = started(code)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: Broken pipe: ")
