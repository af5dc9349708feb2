"""jobs/<id>/: all that the server and a trainer process say to each other, as files that outlive both.

spec.json       server -> trainer    what to train
progress.jsonl  trainer -> server    one JSON object a line, only ever appended to
result.json     trainer -> server    the training is done
error.json      trainer -> server    the training can't be done
trainer.lock    held by the trainer for its life: who holds it is alive, whatever became of its parent
trainer.json    the trainer's process id and start time
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

GRACE = 5.0  # seconds between asking a trainer to end and ending it


class JobFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.training = path / "training.jsonl"
        self.validation = path / "validation.jsonl"
        self.log = path / "trainer.log"

    @contextmanager
    def trainers_only(self, patience: float) -> Iterator[None]:
        """Be this job's one trainer; Timeout if there is another."""
        with FileLock(self.path / "trainer.lock", timeout=patience):
            me = psutil.Process()
            self.write("trainer.json", {"pid": me.pid, "create_time": me.create_time()})
            yield

    @property
    def trainer_alive(self) -> bool:
        try:
            with FileLock(self.path / "trainer.lock", timeout=0):
                return False
        except Timeout:
            return True

    def end_trainer(self) -> None:
        """Stop the trainer and its children, by the id and start time that it wrote down."""
        while self.trainer_alive:
            written = self.read("trainer.json")
            if written is not None:
                _end_family(written["pid"], written["create_time"])
            time.sleep(0.02)  # one that is just starting has yet to write who it is

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: dict[str, Any]) -> None:
        """All of it or nothing, whenever the process ends."""
        write_json(self.path / name, content)

    def report(self, kind: str, **content: object) -> None:
        """Append one line of progress; the leading line end closes a line that a killed trainer left torn."""
        line = json.dumps({"kind": kind, "time": time.time(), **content})
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


def _end_family(pid: int, create_time: float) -> None:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        if parent.create_time() != create_time:
            return
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, GRACE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:  # blank, or torn by a kill
        return None
    return entry
