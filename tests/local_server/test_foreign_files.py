"""A data folder that held other files before: the server removes its own leftovers and nothing else."""

import os
import time
from pathlib import Path

from tests.support.serving import running


def aged(path: Path) -> Path:
    """A file of last week."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    for place in (path, path.parent):
        os.utime(place, (time.time() - 7 * 86400,) * 2)
    return path


def test_files_that_were_there_before_stay(tmp_path: Path, tiny_model: Path) -> None:
    foreign = [
        aged(tmp_path / name) for name in ("files/thesis.pdf", "batches/2025/list.csv", "models/m/w", "jobs/j/n")
    ]
    own = [aged(tmp_path / name) for name in ("files/file-0123", "files/.file-4567.part", "batches/batch_89/lines")]
    with running(tmp_path, "--base-model", str(tiny_model)) as server:
        server.client.models.list()
    assert [path for path in foreign if not path.exists()] == []
    assert [path for path in own if path.exists()] == []
