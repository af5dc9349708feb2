"""data/queues/QUEUE.json: what was asked, and the labels that came back. It is in git, and holds no review.

A person's file may lose columns or have its numbers rewritten by a spreadsheet program. What matters is kept here: the
predictions, the reasons and the weights of the audit.
"""

import hashlib
from pathlib import Path

from pydantic import Field

from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.monitoring.labelling_queue.choose import REASONS

ID_DIGITS = 8
DAMAGED = "restore it with `git checkout`, or choose again with `reviewtune queue`"


class QueuedReview(ResultPart):
    """A review of a queue."""

    row: int = Field(description="its number in the queue, from 1")
    key: str = Field(description="hash of its text, as in data/frozen_splits.csv")
    line: int = Field(description="line of the file that it was chosen from")
    id: str | None = Field(description="its id in that file; null: the file has no column of that name")
    cells: dict[str, str] = Field(description="its other cells in columns that the raw data have too")
    predicted: str | None = Field(description="label of the model; null: no usable answer")
    confidence: float | None = Field(description="calibrated confidence in [0, 1]; null: the model gives none")
    why: str = Field(
        pattern=rf"^({'|'.join(REASONS)})(: .+)?$", description="why it was chosen, of a new topic with its words"
    )
    weight: int = Field(description="number of reviews of the audit sample that it stands for; 0: none")
    label: str | None = Field(None, description="label of a person; null: none was merged yet")
    merged_on: str | None = Field(None, description="date of the merge, ISO 8601")


class QueueRecord(ResultFile):
    """A queue."""

    queue: str = Field(description="name of the queue: a hash of its file, model and settings")
    made_on: str = Field(description="date, ISO 8601")
    data: str = Field(description="name of the data set")
    file: str = Field(description="name of the file with the reviews")
    file_sha256: str = Field(description="SHA-256 of that file")
    reviews: int = Field(description="number of reviews in the file that could be asked for")
    registered_name: str = Field(description="name in the model registry")
    registered_version: str | None = Field(description="version of the champion; null: the model is not registered")
    model: str = Field(description="name of the model that answered")
    rows: tuple[QueuedReview, ...] = Field(description="the reviews")

    def task(self, row: int) -> str:
        """Name of a row in the person's file. It begins with a letter, so that no program reads it as a number."""
        return f"{self.queue}-{row}"


def queue_id(*parts: object) -> str:
    """A name that is equal for equal parts."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    return f"q{digest[:ID_DIGITS]}"


def queues_folder(root: Path) -> Path:
    """The folder with the records of a project."""
    return ProjectPaths(root).labeled.parent / "queues"


def record_path(root: Path, queue: str) -> Path:
    return queues_folder(root) / f"{queue}.json"


def write_record(record: QueueRecord, root: Path) -> None:
    write_result(record, record_path(root, record.queue))


def read_records(root: Path) -> list[QueueRecord]:
    """All queues of the project, the newest last.

    Raises:
        DataError: one of the files is damaged.
    """
    paths = sorted(queues_folder(root).glob("q*.json"))
    records = [read_result(path, QueueRecord, if_missing=DAMAGED, if_damaged=DAMAGED) for path in paths]
    return sorted(records, key=lambda record: (record.made_on, record.queue))
