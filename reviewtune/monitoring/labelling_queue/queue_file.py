"""The file that a person fills in: a CSV, an .xlsx with a list of labels in each cell, or Label Studio's JSON."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.data.faults import Fault
from reviewtune.data.tables import Row, read_bytes, read_table, to_bytes
from reviewtune.monitoring.labelling_queue import label_studio
from reviewtune.monitoring.labelling_queue.queue_record import QueuedReview, QueueRecord

TASK, TEXT, LABEL = "task", "text", "label"
COLUMNS = (TASK, TEXT, LABEL, "predicted", "confidence", "why")
JSON = ".json"
DIGITS = 4  # of a confidence
HINT = "keep the header that `reviewtune queue` wrote"


class FilledRow(NamedTuple):
    """A row as a person left it: its line, the name of its task, its text and its label; each may be empty."""

    line: int
    task: str
    text: str
    label: str


class FilledFile(NamedTuple):
    """The rows of a file, and those that cannot be read."""

    rows: list[FilledRow]
    faults: list[Fault]


def to_file(record: QueueRecord, texts: Mapping[int, str], labels: Sequence[str], path: Path) -> bytes:
    """The content of a file to fill in; the ending of its name decides on the format.

    Args:
        record: the queue.
        texts: of its rows, by their number.
        labels: that may be chosen.
        path: the file.
    """
    if path.suffix.lower() == JSON:
        return label_studio.to_json([_task(record, row, texts[row.row]) for row in record.rows], record.model)
    rows = [_cells(record, row, texts[row.row]) for row in record.rows]
    return to_bytes(COLUMNS, rows, path, choices={LABEL: labels})


def read_filled(path: Path) -> FilledFile:
    """Read a file that a person filled in. Columns may have another order, and more may be there.

    Raises:
        DataError: it cannot be read, or a column is missing.
    """
    content = read_bytes(path)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return _chosen(label_studio.read_choices(content, path))
    table = read_table(path)
    table.require([TEXT, LABEL], hint=HINT)
    rows = [FilledRow(row.line, _cell(row, TASK), _cell(row, TEXT), _cell(row, LABEL)) for row in table.rows]
    return FilledFile(rows, list(table.faults))


def _cell(row: Row, column: str) -> str:
    return normalise(row.cells.get(column, ""))


def _chosen(choices: Sequence[label_studio.Choice]) -> FilledFile:
    faults = [
        Fault(
            choice.number,
            f"{counted(len(choice.labels), 'label')} of one review, which can have one only; choose the main one",
        )
        for choice in choices
        if len(choice.labels) > 1
    ]
    return FilledFile(list(_rows_of(choices)), faults)


def _rows_of(choices: Sequence[label_studio.Choice]) -> Iterator[FilledRow]:
    for choice in choices:
        if len(choice.labels) < 2:
            label = normalise(choice.labels[0]) if choice.labels else ""
            yield FilledRow(choice.number, normalise(choice.task), normalise(choice.text), label)


def _cells(record: QueueRecord, row: QueuedReview, text: str) -> dict[str, str]:
    confidence = "" if row.confidence is None else f"{row.confidence:.{DIGITS}f}"
    values = (record.task(row.row), text, "", row.predicted or "", confidence, row.why)
    return dict(zip(COLUMNS, values, strict=True))


def _task(record: QueueRecord, row: QueuedReview, text: str) -> label_studio.Task:
    cells = _cells(record, row, text)
    shown = {name: cells[name] for name in (TEXT, "predicted", "confidence", "why")}
    return label_studio.Task(cells[TASK], shown, row.predicted, row.confidence)
