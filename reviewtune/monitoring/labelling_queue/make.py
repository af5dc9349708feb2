"""Make a queue: classify new reviews, choose some, and write the record of what is asked."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from reviewtune.analyzer.classification import Classification
from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.data.personal_data import prepared
from reviewtune.data.reviews import sha256
from reviewtune.data.sides.review_key import review_key
from reviewtune.data.tables import Row, Table, refuse_stream
from reviewtune.errors import DataError
from reviewtune.monitoring.labelling_queue.choose import AUDIT_SHARE, NewTopic, Pick, Pool, Prediction, choose
from reviewtune.monitoring.labelling_queue.queue_record import (
    QueuedReview,
    QueueRecord,
    queue_id,
    read_records,
    write_record,
)
from reviewtune.monitoring.labelling_queue.raw_data import RawData, columns_to_carry, read_raw, reviews_of_test
from reviewtune.monitoring.recorded_reviews import (
    Answers,
    answers_to,
    content_hash,
    is_recording,
    read_reviews,
    recorded_answer,
)

Topics = Callable[[Sequence[str], Sequence[str]], Sequence[NewTopic]]
"""From new reviews and labelled ones to the new topics."""


class Model(Protocol):
    """What labels the reviews, such as `ReviewAnalyzer`."""

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    def classify_reviews(self, reviews: Sequence[str]) -> list[Classification]: ...


class QueueOptions(NamedTuple):
    """How a queue is made.

    Attributes:
        size: number of reviews to ask for.
        audit: size of the random sample; None: AUDIT_SHARE of `size`.
        text_column: the column with the reviews; None: the one that conf/data names, or a usual name.
    """

    size: int
    audit: int | None = None
    text_column: str | None = None

    @property
    def sample(self) -> int:
        return round(AUDIT_SHARE * self.size) if self.audit is None else self.audit


class Made(NamedTuple):
    """A queue.

    Attributes:
        record: what is asked.
        texts: of its rows, by their number.
        notes: what the user should know, one line each.
    """

    record: QueueRecord
    texts: dict[int, str]
    notes: tuple[str, ...]


class _Review(NamedTuple):
    row: Row
    text: str
    key: str


def make_queue(
    file: Path,
    column: str,
    options: QueueOptions,
    config: Config,
    root: Path,
    model: Model,
    topics: Topics | None = None,
    *,
    versions: Collection[str | None] | None = None,
) -> Made:
    """Make a queue and write its record. The same file, model and raw data give the same queue.

    Args:
        file: the new reviews, or the folder of a recording.
        column: the column that holds them.
        options: how the queue is made.
        config: the project's configuration.
        root: the project's folder.
        model: labels them.
        topics: finds new topics; None: none are searched.
        versions: what a recording calls this version of the model; None: as the model does.

    Raises:
        DataError: a file cannot be read, or it has no review that could be asked for.
        ProviderError: the model does not answer.
    """
    refuse_stream(file)
    table, raw = read_reviews(file), read_raw(config, root)
    table.refuse_faults()
    reviews = _reviews(table, column, config)
    tested, frozen_test = reviews_of_test(raw, config, root)
    open_ones = [review for review in reviews if review.key not in raw.labels and review.key not in frozen_test]
    if not open_ones:
        raise DataError(f"{file}: no review to ask for; all of its {len(table.rows)} are labelled, empty or too long")
    answers = _answers(open_ones, model, {model.version} if versions is None else versions)
    pool = _pool(open_ones, answers, [*_texts(raw, config), *tested], config)
    picks = _picks(pool, options, config, topics)
    if not picks:
        raise DataError(f"{file}: all of its reviews are near-duplicates of labelled ones: nothing to ask for")
    data, split = config.data, config.split
    settings = (data.max_characters, data.language, data.mask_personal, split.similarity, split.seed)
    name = queue_id(content_hash(file), sha256(raw.table.path), model.model, model.version, options, settings)
    rows = _rows(picks, open_ones, pool, _carried(table, raw, config))
    kept = _kept(_record(name, file, rows, len(open_ones), config, model), root)
    text_of = {review.key: review.text for review in open_ones}
    notes = (*answers.notes(is_recording(file)), *_notes(table, reviews, open_ones, picks, options))
    return Made(kept, {row.row: text_of[row.key] for row in kept.rows}, notes)


def _texts(raw: RawData, config: Config) -> list[str]:
    return [normalise(row.cells[config.data.columns.text]) for row in raw.table.rows]


def _answers(reviews: Sequence[_Review], model: Model, versions: Collection[str | None]) -> Answers:
    """The model's answers: the recorded ones if the file is a recording, the others are asked for."""
    recorded = [recorded_answer(review.row) for review in reviews]
    texts = [review.text for review in reviews]
    return answers_to(texts, recorded, model=model.model, versions=versions, ask=model.classify_reviews)


def _pool(reviews: Sequence[_Review], answers: Answers, known: Sequence[str], config: Config) -> Pool:
    """The reviews with the model's labels."""
    texts = [review.text for review in reviews]
    predictions = [Prediction(answer.label, answer.confidence) for answer in answers.answers]
    return Pool(texts, predictions, known, config.split.similarity)


def _picks(pool: Pool, options: QueueOptions, config: Config, topics: Topics | None) -> list[Pick]:
    found = topics(pool.texts, pool.known) if topics else ()
    return choose(pool, size=options.size, audit=options.sample, topics=found, seed=config.split.seed)


def _rows(picks: Sequence[Pick], reviews: Sequence[_Review], pool: Pool, carried: "_Carried") -> list[QueuedReview]:
    return [
        _row(number, pick, reviews[pick.position], pool.predictions[pick.position], carried)
        for number, pick in enumerate(picks, start=1)
    ]


def _reviews(table: Table, column: str, config: Config) -> list[_Review]:
    """The rows that can be asked for: not empty, not too long. Masked if data.mask_personal says so."""
    data = config.data
    rows = [(row, normalise(row.cells[column])) for row in table.rows]
    usable = [(row, prepared(text, data)) for row, text in rows if 0 < len(text) <= data.max_characters]
    return [_Review(row, text, review_key(text, data.language)) for row, text in usable]


class _Carried(NamedTuple):
    """Columns of the new reviews that the raw data have too.

    Attributes:
        id: the column with an id; None: there is none.
        others: taken over as they are.
    """

    id: str | None
    others: tuple[str, ...]


def _carried(table: Table, raw: RawData, config: Config) -> _Carried:
    identity = config.data.columns.id
    others = [column for column in columns_to_carry(raw.table, config.data) if column in table.columns]
    return _Carried(identity if identity in table.columns else None, tuple(others))


def _row(number: int, pick: Pick, review: _Review, predicted: Prediction, carried: _Carried) -> QueuedReview:
    cells = review.row.cells
    return QueuedReview(
        row=number,
        key=review.key,
        line=review.row.line,
        id=normalise(cells[carried.id]) or None if carried.id else None,
        cells={column: normalise(cells[column]) for column in carried.others},
        predicted=predicted.label,
        confidence=predicted.confidence,
        why=pick.why,
        weight=pick.weight,
    )


def _record(
    name: str, file: Path, rows: Sequence[QueuedReview], reviews: int, config: Config, model: Model
) -> QueueRecord:
    return QueueRecord(
        queue=name,
        made_on=datetime.now(UTC).date().isoformat(),
        data=config.data.name,
        file=file.resolve().name,
        file_sha256=content_hash(file),
        reviews=reviews,
        registered_name=config.registered_name,
        registered_version=model.version,
        model=model.model,
        rows=tuple(rows),
    )


def _kept(record: QueueRecord, root: Path) -> QueueRecord:
    """The record of this queue: the one that is there, with labels that came back, or this one, which is written."""
    there = next((one for one in read_records(root) if one.queue == record.queue), None)
    if there is None:
        write_record(record, root)
    return there or record


def _notes(
    table: Table, reviews: Sequence[_Review], open_ones: Sequence[_Review], picks: Sequence[Pick], options: QueueOptions
) -> list[str]:
    unusable, labelled = len(table.rows) - len(reviews), len(reviews) - len(open_ones)
    notes = []
    if unusable:
        notes.append(f"{counted(unusable, 'review')} left out: empty, or longer than data.max_characters")
    if labelled:
        notes.append(f"{counted(labelled, 'review')} left out: in the raw data already")
    if len(picks) < options.size:
        notes.append(
            f"{len(picks)} instead of {options.size}: the others are near-duplicates of these or of labelled ones"
        )
    if any(pick.why == "random" for pick in picks):
        notes.append("the model gives no confidence, so no review is least sure: the others were drawn at random")
    return notes
