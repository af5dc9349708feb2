"""The files between the server and a trainer, on a disk that is full."""

import threading
from pathlib import Path

import pytest

from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from tests.support.disks import fill, small_disk

__all__ = ["small_disk"]
RESULT = {"trained_tokens": 7, "folder": "x" * 20_000}


def test_the_result_of_a_training_waits_for_space(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is trained at that moment; without its result it would count as failed."""
    waited = threading.Event()

    def free_some(_: float) -> None:
        waited.set()
        (small_disk / "ballast").unlink()

    monkeypatch.setattr("time.sleep", free_some)
    fill(small_disk / "ballast")
    job = JobFolder(small_disk)
    job.conclude("result.json", RESULT)
    assert waited.is_set()
    assert job.read("result.json") == RESULT


def test_what_cannot_be_written_leaves_nothing(small_disk: Path) -> None:
    fill(small_disk / "ballast")
    with pytest.raises(OSError, match="No space left"):
        JobFolder(small_disk).write("result.json", RESULT)
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]
