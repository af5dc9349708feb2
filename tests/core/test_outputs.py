"""Outputs are checked before the work, and only regular files are replaced."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reviewtune.core.atomic_files import write_text
from reviewtune.core.outputs import Output
from reviewtune.errors import DataError


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    Output.checked(link).write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_named_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text("through", pipe)
    reader.join(5)
    assert read == ["through"]
    assert pipe.is_fifo()


def test_standard_output_receives_the_bytes() -> None:
    program = "import pathlib, reviewtune.core.outputs as o; o.Output.checked(pathlib.Path('-')).write_text('é')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.stdout == "é".encode()


@pytest.mark.parametrize("name", ["missing/file.csv", "."])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="--out"):
        Output.checked(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_text("\ud800", path)
    assert path.read_text() == "before"
