"""Check what a person filled in, row by row: what can be merged, what is there already, what is wrong."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reviewtune.core.config.data import DataConfig
from reviewtune.data.faults import Fault
from reviewtune.data.reviews import unknown_label
from reviewtune.data.sides.review_key import review_key
from reviewtune.data.splits import alike
from reviewtune.monitoring.labelling_queue.queue_file import FilledFile, FilledRow
from reviewtune.monitoring.labelling_queue.queue_record import QueuedReview, QueueRecord


class Known(NamedTuple):
    """What the project has already.

    Attributes:
        labels: the line and the label of each review of the raw data, by hash.
        test: texts of test reviews, which must not become training reviews.
        frozen_test: hashes of reviews that are frozen as test reviews, also of those that are gone.
        similarity: texts at least this alike are near-duplicates.
    """

    labels: Mapping[str, tuple[int, str]]
    test: Sequence[str]
    frozen_test: Collection[str]
    similarity: float


class Labelled(NamedTuple):
    """A review with its label, and where it was asked."""

    line: int
    text: str
    label: str
    queue: str
    review: QueuedReview


@dataclass
class Checked:
    """The result, by row.

    Attributes:
        new: to be merged.
        present: in the raw data with this label already.
        unlabelled: lines without a label.
        problems: rows that are not merged, and why.
        asked: number of rows that belong to a queue of the project.
    """

    new: list[Labelled] = field(default_factory=list)
    present: list[Labelled] = field(default_factory=list)
    unlabelled: list[int] = field(default_factory=list)
    problems: list[Fault] = field(default_factory=list)
    asked: int = 0


def check(filled: FilledFile, records: Sequence[QueueRecord], known: Known, data: DataConfig) -> Checked:
    """Check a filled file.

    Args:
        filled: its rows.
        records: the queues of the project.
        known: the reviews that the project has.
        data: the data set's configuration.
    """
    checked = Checked(problems=list(filled.faults))
    found: list[Labelled] = []
    index = _Index(records, data)
    for row in filled.rows:
        one = index.find(row)
        checked.asked += index.knows(row)
        if not row.label:
            checked.unlabelled.append(row.line)
        elif isinstance(one, Fault):
            checked.problems.append(one)
        elif row.label not in data.labels:
            checked.problems.append(Fault(row.line, unknown_label(row.label, data.labels), row.label))
        else:
            found.append(one)
    _sort_in(_without_conflicts(found, checked), known, checked)
    checked.problems.sort(key=lambda fault: fault.line)
    return checked


class _Index:
    """Finds the review that a row is about: by the name of its task, otherwise by its text."""

    def __init__(self, records: Sequence[QueueRecord], data: DataConfig) -> None:
        self._data = data
        own_last = sorted(records, key=lambda record: record.data == data.name)
        rows = [(record, review) for record in own_last for review in record.rows]
        self._by_task = {record.task(review.row): (record, review) for record, review in rows}
        self._by_key = {review.key: (record, review) for record, review in rows}  # the newest own queue wins

    def knows(self, row: FilledRow) -> bool:
        """Whether a queue asked for it, even if its text has changed since."""
        return self._asked(row) is not None

    def find(self, row: FilledRow) -> Labelled | Fault:
        """The review with its label, or what is wrong."""
        asked = self._asked(row)
        if asked is None:
            return Fault(row.line, f"no queue of this project asked for it (data/queues): {_advice(row)}", row.text)
        record, review = asked
        if record.data != self._data.name:
            message = f"asked for data set {record.data}, but params.yaml describes {self._data.name}; merge it there"
            return Fault(row.line, message, row.text)
        if review.key != self._key(row):
            seen = "its text is not the one that was asked" if row.text else "its text is gone"
            return Fault(row.line, f"{seen}; copy it again from line {review.line} of the file it came from", row.text)
        return Labelled(row.line, row.text, row.label, record.queue, review)

    def _asked(self, row: FilledRow) -> tuple[QueueRecord, QueuedReview] | None:
        return self._by_task.get(row.task) or self._by_key.get(self._key(row))

    def _key(self, row: FilledRow) -> str:
        return review_key(row.text, self._data.language) if row.text else ""


def _advice(row: FilledRow) -> str:
    if row.task:
        return f"task '{row.task}' is unknown; get data/queues/ from who made the queue"
    return "add other reviews to the raw data yourself"


def _without_conflicts(found: Sequence[Labelled], checked: Checked) -> list[Labelled]:
    """One row per review; rows of a review with several labels become problems."""
    rows = defaultdict[str, list[Labelled]](list)
    for one in found:
        rows[one.review.key].append(one)
    kept: list[Labelled] = []
    for same in rows.values():
        if len({one.label for one in same}) == 1:
            kept.append(same[0])
            continue
        said = ", ".join(f"line {one.line} '{one.label}'" for one in same)
        checked.problems += [
            Fault(one.line, f"several labels of one review ({said}); agree on one", one.label) for one in same
        ]
    return kept


def _sort_in(found: Sequence[Labelled], known: Known, checked: Checked) -> None:
    tested = _near_test([one.text for one in found], known)
    for place, one in enumerate(found):
        line, label = known.labels.get(one.review.key, (0, None))
        if label == one.label:
            checked.present.append(one)
        elif label is not None:
            message = f"labelled '{label}' in line {line} of the raw data already; if that is wrong, correct it there"
            checked.problems.append(Fault(one.line, message, one.label))
        elif place in tested or one.review.key in known.frozen_test:
            message = "a review of the test split, or a near-duplicate of one: no model may learn from it"
            checked.problems.append(Fault(one.line, message, one.text))
        else:
            checked.new.append(one)


def _near_test(texts: list[str], known: Known) -> set[int]:
    """Positions of texts that are nearly test reviews."""
    if not texts or not known.test:
        return set()
    return {pair.left for pair in alike(texts, list(known.test), known.similarity)}
