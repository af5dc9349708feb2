"""Read the new reviews: all of a file, or a random sample of it, with their dates if there are any.

A file of any size needs the memory of its sample. The sample depends on the file and its size alone, so that the same
command asks the model about the same reviews.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.core.text_files import encoding_of
from reviewtune.data import delimited_text, spreadsheets
from reviewtune.data.reviews import TEXT_COLUMNS, sha256
from reviewtune.data.tables import Row, read_table, refuse_stream
from reviewtune.errors import DataError

DATE_COLUMNS = ("date", "time", "datetime", "timestamp", "created_at", "created", "review_date")
LARGE = 32 * 2**20
"""Bytes from which on a CSV is read row by row, without the checks that need all of it at once."""
HEAD = 2**18  # bytes in which the separator is looked for
SEED = 0


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
    """

    path: Path
    sha256: str
    texts: tuple[str, ...]
    dates: tuple[date | None, ...]
    total: int
    notes: tuple[str, ...]


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
    columns, rows = _streamed(path) if is_large else _whole(path)
    text, when = _text_column(path, columns, options), _date_column(path, columns, options)
    kept, total, empty = _sampled(rows, text, options.sample)
    if not kept:
        raise DataError(f"{path}: no review: the column '{text}' is empty in all {empty:,} rows; is it the right one?")
    dates, date_note = _dates([row.cells.get(when, "") for row in kept] if when else [], when)
    notes = [
        f"{empty:,} of {total + empty:,} rows have no text and were skipped" if empty else "",
        f"a random sample of {len(kept):,} of {total:,} reviews was compared (--sample)" if len(kept) < total else "",
        date_note,
    ]
    return NewReviews(
        path=path,
        sha256=sha256(path),
        texts=tuple(normalise(row.cells[text]) for row in kept),
        dates=dates or (None,) * len(kept),
        total=total,
        notes=tuple(filter(None, notes)),
    )


def _whole(path: Path) -> tuple[Sequence[str], Iterable[Row]]:
    table = read_table(path)
    table.refuse_faults()
    return table.columns, table.rows


def _streamed(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    """Header and rows of a large CSV; rows of another width than the header are refused when they are reached."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    encoding = encoding_of(head)
    separator, _ = delimited_text.rows(_whole_rows(head, encoding), path)
    rows = _cells(path, "utf-8-sig" if encoding == "utf-8" else encoding, separator)
    _, names = next(rows)
    columns = [normalise(name.lstrip("\ufeff")) for name in names]

    def records() -> Iterator[Row]:
        for line, cells in rows:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(columns):
                raise DataError(f"{path} line {line}: {counted(len(cells), 'cell')}, the header has {len(columns)}")
            yield Row(line, dict(zip(columns, cells, strict=True)))

    return columns, records()


def _cells(path: Path, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader, line = csv.reader(file, delimiter=separator, strict=True), 1
            for cells in reader:
                yield line, cells
                line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        reason = f"not {encoding}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"{path}: cannot be read after line {line} ({reason}); save it as a CSV in UTF-8") from error


def _whole_rows(head: bytes, encoding: str) -> str:
    """The beginning of a file up to the last line break outside of quotes."""
    text = head.decode(encoding, "ignore").lstrip("\ufeff")
    lines = io.StringIO(text, newline="").readlines()[:-1] or [text]
    quotes = np.cumsum([line.count('"') for line in lines])
    complete = np.flatnonzero(quotes % 2 == 0)
    return "".join(lines[: int(complete[-1]) + 1]) if len(complete) else text


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


def _text_column(path: Path, columns: Sequence[str], options: ReadOptions) -> str:
    given = options.text_column
    usual = (given,) if given else (options.configured, *TEXT_COLUMNS)
    found = next((name for name in usual if name in columns), None)
    if found is None and given is None and len(columns) == 1:
        return columns[0]
    if found is None:
        has = f"it has {', '.join(columns)}" if columns else "it is empty"
        raise DataError(f"{path}: no column '{usual[0]}': {has}; name the column with the reviews with --text-column")
    return found


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
    """The day of an ISO date or time, or of seconds since 1970; other forms are ambiguous (3/4/2026)."""
    text: Any = cell.strip()
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        pass
    try:
        return datetime.fromtimestamp(float(text)).date() if len(text) > 8 else None
    except (ValueError, OverflowError, OSError):
        return None


def _is_spreadsheet(path: Path) -> bool:
    with path.open("rb") as file:
        return spreadsheets.is_spreadsheet(file.read(8))
