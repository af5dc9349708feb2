"""jobs/<id>/: how the server and a trainer process communicate, through files that outlive both.

spec.json       server -> trainer    what to train
start/          server -> trainer    the fine-tune to start from, if it is not a base model; removed at the end
progress.jsonl  trainer -> server    one JSON object per line, appended only
result.json     trainer -> server    the training is done
error.json      trainer -> server    the training failed
trainer.lock    held by the trainer while it runs, even after its parent has ended
trainer.json    the trainer's process id and start time
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from reviewtune.core.user_dirs import is_started_at, start_of
from reviewtune.local_server.engine.base_models.disk_space import DISK_SECONDS, lacks_space

GRACE = 5.0  # seconds between asking a trainer to end and killing it


class JobFolder:
    """The files of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.training = path / "training.jsonl"
        self.validation = path / "validation.jsonl"
        self.start = path / "start"
        self.log = path / "trainer.log"

    @contextmanager
    def trainer_lock(self, patience: float) -> Iterator[None]:
        """Be the only trainer of this job.

        Raises:
            Timeout: another trainer still runs after `patience` seconds.
        """
        with FileLock(self.path / "trainer.lock", timeout=patience):
            process = psutil.Process()
            self.write("trainer.json", {"pid": process.pid, "create_time": start_of(process)})
            yield

    def forget_start(self) -> None:
        """Remove the fine-tune that the training started from, once it is not needed any more."""
        shutil.rmtree(self.start, ignore_errors=True)

    @property
    def trainer_alive(self) -> bool:
        """Whether a trainer works on this job."""
        if not self.path.exists():  # the lock would make the folder of a deleted job again
            return False
        try:
            with FileLock(self.path / "trainer.lock", timeout=0):
                return False
        except Timeout:
            return True

    def end_trainer(self) -> None:
        """Stop the trainer and its children, identified by the process id and start time in trainer.json."""
        while self.trainer_alive:
            trainer = self.read("trainer.json")
            if trainer is not None:
                _end_if_started_at(trainer["pid"], trainer["create_time"])
            time.sleep(0.02)  # a trainer that is just starting has not written its id yet

    def read(self, name: str) -> dict[str, Any] | None:
        """A file's content, or None if it does not exist."""
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a file atomically: completely or not at all, whenever the process ends."""
        write_json(self.path / name, content)

    def report(self, kind: str, **content: object) -> None:
        """Append one line of progress; on a full disk, wait for space, because the training would be lost."""
        line = json.dumps({"kind": kind, "time": time.time(), **content})
        when_there_is_space(partial(self._append, line))

    def conclude(self, name: str, content: dict[str, Any]) -> None:
        """Write how the training ended; on a full disk, wait for space, because the training would be lost."""
        when_there_is_space(partial(self.write, name, content))

    def _append(self, line: str) -> None:
        """The newline before the line ends one that was cut off, by a kill or a full disk."""
        with (self.path / "progress.jsonl").open("a") as stream:
            stream.write(f"\n{line}\n")
            stream.flush()
            os.fsync(stream.fileno())

    def progress(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """The complete lines after `offset`, and the offset after them."""
        with suppress(FileNotFoundError), (self.path / "progress.jsonl").open("rb") as stream:
            stream.seek(offset)
            whole, end, _ = stream.read().rpartition(b"\n")
            lines = [entry for line in whole.split(b"\n") if (entry := _parsed(line))]
            return lines, offset + len(whole) + len(end)
        return [], offset


def when_there_is_space(write: Callable[[], None]) -> None:
    """Write to disk; if it is full, wait until it is not."""
    while True:
        try:
            write()
        except OSError as error:
            if not lacks_space(error):
                raise
            time.sleep(DISK_SECONDS)
        else:
            return


def _end_if_started_at(pid: int, create_time: float) -> None:
    with suppress(psutil.NoSuchProcess):
        if is_started_at(psutil.Process(pid), create_time):
            end_with_children(pid)


def end_with_children(pid: int) -> None:
    """Stop a process and its children."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(processes, GRACE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w") as stream:
            json.dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:  # blank, or cut off by a kill
        return None
    return entry
