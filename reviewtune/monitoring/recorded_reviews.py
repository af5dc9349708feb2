"""Read what `reviewtune serve-app --record` kept: a folder of one file per day, or one of the files.

Incomplete lines, which a killed service or a full disk leaves, are skipped and counted.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from reviewtune.analyzer.champion import FolderSource
from reviewtune.analyzer.classification import Classification
from reviewtune.core.formatting import counted
from reviewtune.data.reviews import sha256
from reviewtune.data.tables import Row, Table, read_table
from reviewtune.deployment.app.recorded_answer import RecordedAnswer, recorded_files
from reviewtune.errors import DataError

ENDING = ".jsonl"
RECORDED = "recorded"
"""Column with the whole line of the recording."""


class Recording:
    """A recording, which is read line by line.

    Args:
        path: the folder, or a file of it.

    Raises:
        DataError: there is none.
    """

    columns = ("text", "time", RECORDED)

    def __init__(self, path: Path) -> None:
        self._path, self._damaged = path, 0
        try:
            self._files = recorded_files(path) if path.is_dir() else [path]
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if not self._files or not self._files[0].is_file():
            wanted = "reviews-DATE.jsonl of `reviewtune serve-app --record`"
            raise DataError(f"{path}: no recording here, that is no {wanted}; name such a file or its folder, or a CSV")

    @property
    def sha256(self) -> str:
        """Of the content of all files."""
        own = [sha256(file) for file in self._files]
        return own[0] if len(own) == 1 else hashlib.sha256("\n".join(own).encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """What was skipped by the last `rows` that came to its end."""
        return [f"{counted(self._damaged, 'incomplete line')} of the recording skipped"] if self._damaged else []

    def rows(self) -> Iterator[Row]:
        """The lines in the order of the recording; their number counts on from file to file."""
        self._damaged, number = 0, 0
        for line in self._lines():
            number += 1
            try:
                answer = RecordedAnswer.model_validate_json(line)
            except ValidationError:
                self._damaged += 1
                continue
            yield Row(number, {"text": answer.text, "time": answer.time, RECORDED: line.decode()})
        if number == self._damaged:
            raise DataError(f"{self._path}: not one complete line of a recording; name another file, or a CSV")

    def _lines(self) -> Iterator[bytes]:
        for file in self._files:
            with file.open("rb") as lines:
                yield from (line for line in lines if line.strip())


def is_recording(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ENDING


def read_reviews(path: Path) -> Table:
    """The table of a file of reviews, or of a recording.

    Raises:
        DataError: it cannot be read.
    """
    if not is_recording(path):
        return read_table(path)
    rows = tuple(Recording(path).rows())
    return Table(path=path, kind="csv", columns=Recording.columns, rows=rows, empty_rows=0, faults=())


def content_hash(path: Path) -> str:
    """SHA-256 of a file or of a recording."""
    return Recording(path).sha256 if is_recording(path) else sha256(path)


def recorded_answer(row: Row) -> Classification | None:
    """How the review of a row was answered; None: nothing was recorded, or no model answered."""
    if RECORDED not in row.cells:
        return None
    answer = RecordedAnswer.model_validate_json(row.cells[RECORDED])
    if answer.model is None:
        return None
    why = None if answer.label else "no usable answer was recorded"
    return Classification(
        answer.label, answer.confidence, sure=answer.sure, model=answer.model, version=answer.version, why=why
    )


def versions_of(folder: Path, version: str) -> set[str]:
    """What a service calls a model: its version in the registry, or, with `--served-model`, that of its folder."""
    return {version, FolderSource(folder).look().version}


class Answers(NamedTuple):
    """Answers to reviews in order, and how many of them were recorded before."""

    answers: list[Classification]
    recorded: int

    def notes(self, is_recording: bool) -> list[str]:
        """For the user, if the reviews are of a recording."""
        if not is_recording:
            return []
        asked = len(self.answers) - self.recorded
        rest = f"; {asked:,} asked again, because another model or version answered, or none" if asked else ""
        return [f"{counted(self.recorded, 'answer')} taken from the recording, not asked again{rest}"]


def answers_to(
    texts: Sequence[str],
    recorded: Sequence[Classification | None],
    *,
    model: str,
    versions: Collection[str | None],
    ask: Callable[[Sequence[str]], Sequence[Classification]],
) -> Answers:
    """The recorded answers of this model and version; the others are asked for.

    Args:
        texts: the reviews.
        recorded: of the same reviews; None: nothing is recorded.
        model: name of the model in use.
        versions: its version, by all its names.
        ask: the model in use.
    """
    own = [one if one and one.model == model and one.version in versions else None for one in recorded]
    missing = [text for text, one in zip(texts, own, strict=True) if one is None]
    asked = iter(ask(missing) if missing else [])
    return Answers([one or next(asked) for one in own], len(texts) - len(missing))
