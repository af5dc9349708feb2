"""`reviewtune classify FILE_OR_FOLDER --out FOLDER` without a project."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reviewtune.commands.main import main
from tests.bulk.conftest import rows_in

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error with the final message."""
        monkeypatch.setattr(sys, "argv", ["reviewtune", "classify", *words, "--served-model", str(served)])
        status: Any = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        out, err = capfd.readouterr()
        return (1, out, err + status) if isinstance(status, str) else (status or 0, out, err)

    monkeypatch.chdir(tmp_path)
    return run


def test_a_folder_becomes_parts(run: Run, folder: Path) -> None:
    (folder / "notes.txt").touch()
    (folder / "_SUCCESS").touch()
    status, out, err = run("new", "--out", "sorted", "--part-rows", "20", "--keep", "text", "--confidence")
    assert status == 0, err
    assert "new: only .csv, .tsv, .parquet are read, not notes.txt\n" in out
    assert "45 rows in 3 parts and manifest.json, written to sorted" in out
    assert "classifying: 45/45" in err
    assert len(rows_in(Path("sorted"))) == 45
    status, out, _ = run("new", "--out", "sorted", "--part-rows", "20", "--keep", "text")
    assert (status, "sorted: 45 rows are classified already, nothing is asked" in out) == (0, True)


def test_a_file_is_still_written_as_one_file(run: Run, folder: Path) -> None:
    status, out, err = run("new/a.csv", "--out", "sorted.csv", "--confidence")
    assert status == 0, err
    assert Path("sorted.csv").read_text().splitlines()[0] == "id,text,issue,confidence,sure"
    assert "asking linear (the model in " in out


def test_options_that_do_not_go_together_are_refused(run: Run, folder: Path) -> None:
    for words, message in {
        ("new/a.csv", "--out", "x.csv", "--part-rows", "9"): "--part-rows is for parts, but --out x.csv is a file",
        ("new", "--out", "x.csv"): "--out x.csv: a folder and a Parquet file are classified in parts; name a folder",
        ("new", "--out", "-"): "name a folder for them",
        ("new", "--out", "x", "--unsure-to", "y.csv"): "--unsure-to needs a file as --out",
        ("new", "--out", "x", "--format", "xml"): "--format xml: the formats are parquet and csv",
        ("new", "--out", "x", "--keep", "nothing"): "no column 'nothing'",
        ("new", "--out", "x", "--keep", "id", "--keep", "id"): "--keep id: 'id' is named twice",
        ("new/a.csv", "--out", "."): "this is a folder with other files (new)",
        ("new", "--out", "x", "--on", "spark"): "--on spark: only --on ray is known; leave it out",
        ("new", "--out", "x", "--address", "h:1"): "--address h:1 is that of a Ray cluster; add --on ray, or leave it",
        ("new/a.csv", "--out", "x.csv", "--on", "ray"): "--on is for parts, but --out x.csv is a file",
        ("new", "--out", "x", "--base"): "--served-model names the model; it does not go with",
    }.items():
        status, _, err = run(*words)
        assert status == 1, words
        assert message in err, err
    assert not Path("x").exists()


def test_without_ray_one_line_names_the_command_that_installs_it(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    status, _, err = run("new", "--out", "x", "--on", "ray")
    assert (status, Path("x").exists()) == (1, False)
    assert re.fullmatch(r"error: --on ray needs Ray: `pip install '.*\[ray\]'`.*", err.strip()), err
