"""Read the new reviews: all of a file, or a random sample of it, with their dates if there are any.

A file of any size needs the memory of its sample. The sample depends on the file and its size alone, so that the same
command asks the model about the same reviews.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reviewtune.analyzer.classification import Classification
from reviewtune.core.config.data import DataConfig
from reviewtune.core.normalisation import normalise
from reviewtune.data import spreadsheets
from reviewtune.data.personal_data import prepared
from reviewtune.data.reviews import sha256, text_column_of
from reviewtune.data.tables import Row, Table, read_table, refuse_stream, stream_csv
from reviewtune.errors import DataError
from reviewtune.monitoring.recorded_reviews import Recording, is_recording, recorded_answer

DATE_COLUMNS = ("date", "time", "datetime", "timestamp", "created_at", "created", "review_date")
LARGE = 32 * 2**20
"""Bytes from which on a CSV is read row by row, by the same rules but for its separator, which is that of its start."""
SEED = 0
FIRST_YEAR = 1970


@dataclass(frozen=True)
class NewReviews:
    """The reviews to compare.

    Args:
        path: the file.
        sha256: of the file.
        texts: normalised, not empty.
        dates: of each; None: not known.
        total: number of rows with a text in the file.
        notes: what was sampled or skipped, for the report.
        recorded: how each was answered, if the file is a recording of `serve-app`; None: not known.
    """

    path: Path
    sha256: str
    texts: tuple[str, ...]
    dates: tuple[date | None, ...]
    total: int
    notes: tuple[str, ...]
    recorded: tuple[Classification | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the file is read.

    Args:
        text_column, date_column: names; None: one with a usual name, for texts also the only column.
        configured: the text column of conf/data, which counts as usual.
        sample: reviews to compare at most.
    """

    text_column: str | None = None
    date_column: str | None = None
    configured: str = "text"
    sample: int = 2_000


def read_new_reviews(path: Path, options: ReadOptions) -> NewReviews:
    """Read the file.

    Raises:
        DataError: it cannot be read, has no such column, or no review.
    """
    refuse_stream(path)
    is_large = path.is_file() and path.stat().st_size > LARGE and not _is_spreadsheet(path)
    recording = Recording(path) if is_recording(path) else None
    columns, rows = _recorded(recording) if recording else stream_csv(path) if is_large else _whole(path)
    header = Table(path, "csv", tuple(columns), rows=(), empty_rows=0, faults=())
    text = text_column_of(header, options.text_column, options.configured)
    when = _date_column(path, columns, options)
    kept, total, empty = _sampled(rows, text, options.sample)
    if not kept:
        raise DataError(f"{path}: no review: the column '{text}' is empty in all {empty:,} rows; is it the right one?")
    dates, date_note = _dates([row.cells.get(when, "") for row in kept] if when else [], when)
    notes = [
        f"{empty:,} of {total + empty:,} rows have no text and were skipped" if empty else "",
        f"a random sample of {len(kept):,} of {total:,} reviews was compared (--sample)" if len(kept) < total else "",
        date_note,
        *(recording.notes if recording else ()),
    ]
    return NewReviews(
        path=path,
        sha256=recording.sha256 if recording else sha256(path),
        texts=tuple(normalise(row.cells[text]) for row in kept),
        dates=dates or (None,) * len(kept),
        total=total,
        notes=tuple(filter(None, notes)),
        recorded=tuple(map(recorded_answer, kept)) if recording else None,
    )


def as_prepared(new: NewReviews, data: DataConfig | None) -> NewReviews:
    """With personal data masked as in the training file, if the model's section `data` says so.

    The reviews of the reference are masked as well, so that only like is compared with like, and no report shows more.
    """
    return new if data is None else replace(new, texts=tuple(prepared(text, data) for text in new.texts))


def _recorded(recording: Recording) -> tuple[Sequence[str], Iterable[Row]]:
    return recording.columns, recording.rows()


def _whole(path: Path) -> tuple[Sequence[str], Iterable[Row]]:
    table = read_table(path)
    table.refuse_faults()
    return table.columns, table.rows


def _sampled(rows: Iterable[Row], column: str, most: int) -> tuple[list[Row], int, int]:
    """A uniform sample (Vitter's algorithm R) in the order of the file; the numbers of texts and of empty rows."""
    draw, kept = np.random.default_rng(SEED), list[Row]()
    total = empty = 0
    for row in rows:
        if not normalise(row.cells[column]):
            empty += 1
            continue
        total += 1
        if len(kept) < most:
            kept.append(row)
        elif (place := int(draw.integers(total))) < most:
            kept[place] = row
    return sorted(kept, key=lambda row: row.line), total, empty


def _date_column(path: Path, columns: Sequence[str], options: ReadOptions) -> str | None:
    if options.date_column and options.date_column not in columns:
        raise DataError(f"{path}: no column '{options.date_column}': it has {', '.join(columns)}; see --date-column")
    lower = {name.lower(): name for name in reversed(columns)}
    return options.date_column or next((lower[name] for name in DATE_COLUMNS if name in lower), None)


def _dates(cells: Sequence[str], column: str | None) -> tuple[tuple[date | None, ...], str]:
    """The days, and a note on cells that are none."""
    days = tuple(map(_day, cells))
    bad = sum(day is None for day in days)
    if not bad:
        return days, ""
    example = next(cell for cell, day in zip(cells, days, strict=True) if day is None)
    note = f"{bad:,} of {len(days):,} cells of '{column}' are not dates like 2026-11-29, such as {example[:30]!r}"
    return days, f"{note}; those reviews count without a date"


def _day(cell: str) -> date | None:
    """The day of an ISO date or time as written, or of seconds since 1970 in UTC; 3/4/2026 would be ambiguous.

    An earlier year is none: databases write 0001-01-01 or 1900-01-01 where a date is missing.
    """
    text: Any = cell.strip()
    try:
        day = datetime.fromisoformat(text).date()
    except ValueError:
        try:
            day = datetime.fromtimestamp(float(text) if len(text) > 8 else math.nan, UTC).date()
        except (ValueError, OverflowError, OSError):
            return None
    return day if day.year >= FIRST_YEAR else None


def _is_spreadsheet(path: Path) -> bool:
    with path.open("rb") as file:
        return spreadsheets.is_spreadsheet(file.read(8))
