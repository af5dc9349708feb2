"""Outputs are checked before the work, and only regular files are replaced."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from reviewtune.core.atomic_files import write_bytes, write_text
from reviewtune.core.outputs import Output, refuse_bad_folder
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


@pytest.fixture
def _ordinary_user() -> Iterator[None]:
    """The real user is not root, whom no permission stops."""
    before = os.getuid()
    os.setreuid(before or 65534, -1)
    yield
    os.setreuid(before, -1)


@pytest.mark.usefixtures("_ordinary_user")
def test_a_file_in_a_folder_that_cannot_be_written_is_refused_at_once() -> None:
    """It is replaced, so that nobody reads a part of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are closed to other users
        path = Path(name) / "out.csv"
        path.write_text("before")
        path.chmod(0o666)
        path.parent.chmod(0o777)
        Output.checked(path)
        path.parent.chmod(0o555)
        with pytest.raises(DataError, match=f"--out {path}: you may not write to {path.parent}; name another file"):
            Output.checked(path)
        path.parent.chmod(0o777)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_text("\ud800", path)
    assert path.read_text() == "before"


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o640)
    write_text("after", path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(TypeError):
        write_bytes(cast(bytes, 1), tmp_path / "file")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]


def test_a_folder_for_results_is_checked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "metrics.json").mkdir(parents=True)
    refuse_bad_folder(tmp_path / "new" / "folder", ["metrics.json"])
    assert not (tmp_path / "new").exists()
    for path, message in (
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "file" / "below", "is not a folder"),
        (Path("/dev/stdout"), "is not a folder"),
        (tmp_path / "taken", r"metrics\.json cannot be written"),
    ):
        with pytest.raises(DataError, match=message):
            refuse_bad_folder(path, ["metrics.json"])


def test_a_link_to_a_pipe_is_written_through() -> None:
    program = "import pathlib, reviewtune.core.atomic_files as a; a.write_text('through', pathlib.Path('/dev/fd/1'))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"through"
