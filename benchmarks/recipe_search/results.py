"""Results as JSON lines, each on disk as soon as it is known, so that a stopped comparison resumes where it was."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CODE = "2"
"""Increase it when a change of the engine changes what a training computes, so that the comparison runs again.

1: rows of 192 tokens. 2: rows of 448 tokens. In the first results it is a hash of the files, which any change broke.
"""
KEY = ("base", "recipe", "data", "data_digest", "seed", "precision", "code")


class Job(NamedTuple):
    """One training to run, as its result names it."""

    base: str
    recipe: dict[str, Any]  # all values of a trial
    data: str
    data_digest: str
    seed: int
    precision: str
    code: str

    @property
    def key(self) -> str:
        return json.dumps(self._asdict(), sort_keys=True)


def read(path: Path) -> list[dict[str, Any]]:
    """All results of a file, none if it is missing. A last line that was cut off is left out.

    Raises:
        ValueError: another line is not a result.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    results = [_result(line, f"{path} line {number}") for number, line in enumerate(lines[:-1], 1) if line]
    return [*results]


def key_of(result: dict[str, Any]) -> str:
    """Equal to the key of the job that it is the result of."""
    return Job(*(result[name] for name in KEY)).key


def append(path: Path, result: dict[str, Any]) -> None:
    """Add a result, and wait until it is on disk; a last line that was cut off is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
    with path.open("ab") as file:
        file.truncate(whole)
        file.write(json.dumps(result).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def unfinished(jobs: Sequence[Job], results: Sequence[dict[str, Any]]) -> list[Job]:
    """The jobs without a result."""
    finished = {key_of(result) for result in results}
    return [job for job in jobs if job.key not in finished]


def usual_precision(results: Sequence[dict[str, Any]], bases: Sequence[str]) -> str | None:
    """The precision of most results of these base models; None if there is none."""
    found = Counter(one["precision"] for one in results if one["base"] in bases and one["code"] == CODE)
    return found.most_common(1)[0][0] if found else None


def _result(line: bytes, where: str) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); remove the line, and its run is repeated") from None
    if not isinstance(result, dict) or not {*KEY, "accuracy", "seconds"} <= result.keys():
        raise ValueError(f"{where}: not a result of recipes.py; remove the line, or give another file with --results")
    return result
