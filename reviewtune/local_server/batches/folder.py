"""batches/<id>/: a batch's input and its answers so far, written slice by slice: a kill loses one slice at most."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Tally:
    """What a batch has answered so far."""

    done: set[str] = field(default_factory=set)  # custom ids
    completed: int = 0
    failed: int = 0
    expired: int = 0  # of those that failed
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, output: Iterable[dict[str, Any]], errors: Iterable[dict[str, Any]]) -> None:
        """Count lines of the output and the error file."""
        for line in output:
            usage = line["response"]["body"]["usage"]
            is_chat = "prompt_tokens" in usage
            read, written = ("prompt", "completion") if is_chat else ("input", "output")
            self.done.add(line["custom_id"])
            self.completed += 1
            self.prompt_tokens += usage[f"{read}_tokens"]
            self.cached_tokens += usage[f"{read}_tokens_details"]["cached_tokens"]
            self.completion_tokens += usage[f"{written}_tokens"]
        for line in errors:
            self.done.add(line["custom_id"])
            self.failed += 1
            self.expired += line["response"] is None


class BatchFolder:
    """The files of one batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.input = path / "input.jsonl"
        self.output = path / "output.jsonl"
        self.errors = path / "errors.jsonl"

    def append(self, output: Iterable[dict[str, Any]], errors: Iterable[dict[str, Any]]) -> None:
        """Write lines and wait until they are on disk; all of them or, if there is no space, none."""
        sizes = {path: path.stat().st_size if path.exists() else 0 for path in (self.output, self.errors)}
        try:
            for path, lines in ((self.output, output), (self.errors, errors)):
                with path.open("a") as stream:
                    stream.writelines(f"{json.dumps(line)}\n" for line in lines)
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError:
            for path, size in sizes.items():
                if path.exists():
                    os.truncate(path, size)
            raise

    def tally(self) -> Tally:
        """Count what is written, after removing a last line that a kill left incomplete."""
        tally = Tally()
        tally.add(_whole_lines(self.output), _whole_lines(self.errors))
        return tally


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    whole = 0
    with path.open("rb+") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                whole += len(line)
                yield json.loads(line)
        stream.truncate(whole)
