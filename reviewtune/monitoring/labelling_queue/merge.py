"""Bring the labels of a filled file into the raw data, and update the audit.

The order makes a killed merge harmless: first the raw data, in one step, then the record of the queue, then MLflow. The
same command finds what is there already by the hash of each review, and does the rest.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths
from reviewtune.errors import DataError
from reviewtune.monitoring.labelling_queue import raw_data
from reviewtune.monitoring.labelling_queue.audit import Audit, Published, audited, publish
from reviewtune.monitoring.labelling_queue.check import Checked, Known, Labelled, check
from reviewtune.monitoring.labelling_queue.queue_file import read_filled
from reviewtune.monitoring.labelling_queue.queue_record import (
    QueueRecord,
    queues_folder,
    read_records,
    record_path,
    write_record,
)
from reviewtune.monitoring.labelling_queue.raw_data import (
    LABEL_SOURCE,
    LABELLED_ON,
    RawData,
    read_raw,
    refuse_unwritable,
)


class QueueAudit(NamedTuple):
    """The audit of a queue, and where it was written."""

    record: QueueRecord
    audit: Audit
    published: Published


class Merged(NamedTuple):
    """What a merge did.

    Attributes:
        path: the raw data.
        checked: the rows of the file.
        new_columns: columns that were added to the raw data.
        audits: of the queues in the file that have labels of their sample.
    """

    path: Path
    checked: Checked
    new_columns: tuple[str, ...]
    audits: tuple[QueueAudit, ...]


def merge(file: Path, config: Config, root: Path, *, keep_columns: bool = False) -> Merged:
    """Merge a filled file. Rows with a problem are left out; they are in the result.

    Args:
        file: what a person filled in.
        config: the project's configuration.
        root: the project's folder.
        keep_columns: add no columns for date and source to the raw data.

    Raises:
        DataError: the file or the raw data cannot be read, there is no queue, or no row has a label.
        TrackingError: MLflow does not answer; the labels are in the raw data then.
    """
    filled, records = read_filled(file), read_records(root)
    if not records:
        raise DataError(
            f"{queues_folder(root)} has no queue: `reviewtune queue FILE --size 50 --out OUT.csv` makes one"
        )
    lock = ProjectPaths(root).work / "queue.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        raw = read_raw(config, root)
        known = Known(raw.labels, *raw_data.reviews_of_test(raw, config, root), config.split.similarity)
        checked = check(filled, records, known, config.data)
        _refuse_unfit(file, checked)
        columns = _write(raw, checked.new, config, keep_columns=keep_columns)
        touched = _updated(records, checked, read_raw(config, root).labels, root)
    return Merged(raw.table.path, checked, columns, tuple(_publish(touched, config, root)))


def _refuse_unfit(file: Path, checked: Checked) -> None:
    if not checked.asked:
        raise DataError(
            f"{file}: none of its rows was asked for by a queue of this project; merge a file that `reviewtune queue` "
            "wrote here, or get data/queues/ from who made it"
        )
    if checked.unlabelled and not (checked.new or checked.present or checked.problems):
        raise DataError(
            f"{file}: none of its {counted(len(checked.unlabelled), 'row')} has a label; fill in column label first"
        )


def _write(raw: RawData, new: Sequence[Labelled], config: Config, *, keep_columns: bool) -> tuple[str, ...]:
    """Append the new reviews; returns the added columns."""
    if not new:
        return ()
    refuse_unwritable(raw)
    columns = () if keep_columns else tuple(raw_data.missing_columns(raw))
    raw_data.append(raw, _rows(raw, new, config), new_columns=columns)
    return columns


def _rows(raw: RawData, new: Sequence[Labelled], config: Config) -> list[dict[str, str]]:
    names, today = config.data.columns, datetime.now(UTC).date().isoformat()
    used = {row.cells[names.id].strip() for row in raw.table.rows} if names.id else set()
    rows = []
    for one in new:
        row = {**one.review.cells, names.text: one.text, names.label: one.label}
        if names.id:
            row[names.id] = raw_data.unused_id(one.review.id, one.review.key, used)
            used.add(row[names.id])
        rows.append({**row, LABELLED_ON: today, LABEL_SOURCE: f"{one.queue} {one.review.why}"})
    return rows


def _updated(
    records: Sequence[QueueRecord], checked: Checked, labels: Mapping[str, tuple[int, str]], root: Path
) -> list[QueueRecord]:
    """The queues that the file has labels of, with the labels that the raw data have now."""
    named = {one.queue for one in (*checked.new, *checked.present)}
    touched = [_with_labels(record, labels) for record in records if record.queue in named]
    for record in touched:
        write_record(record, root)
    return touched


def _with_labels(record: QueueRecord, labels: Mapping[str, tuple[int, str]]) -> QueueRecord:
    today = datetime.now(UTC).date().isoformat()
    rows = []
    for row in record.rows:
        _, label = labels.get(row.key, (0, row.label))
        changed = {} if label == row.label else {"label": label, "merged_on": today}
        rows.append(row.model_copy(update=changed))
    return record.model_copy(update={"rows": tuple(rows)})


def _publish(records: Sequence[QueueRecord], config: Config, root: Path) -> list[QueueAudit]:
    audits = [(record, audit) for record in records if (audit := audited(record))]
    return [
        QueueAudit(record, audit, publish(audit, record, config.tracking, record_path(root, record.queue)))
        for record, audit in audits
    ]
