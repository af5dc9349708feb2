"""Labelled reviews: read a user's CSV, check it, and return one normalised table.

A table of reviews is a pandas DataFrame of strings with the columns
`review_id, text, label, label_second, language` and the data set's slice columns. `label_second` may be empty.
"""

import csv
import difflib
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config import ColumnsConfig, DataConfig
from reviewtune.core.formatting import counted
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.data.personal_data import mask
from reviewtune.errors import DataError

MIN_ROWS_PER_LABEL = 4  # with fewer, a label cannot be in the training, validation and test split
ADVISED_EXAMPLES = 100
ADVISED_PER_LABEL = 10
NAME_COLUMNS = "name your columns in conf/data/NAME.yaml, columns"
COLUMNS = ("review_id", "text", "label", "label_second", "language")


class CsvRow(NamedTuple):
    """A row of a CSV file: the number of its last line (the header is line 1) and its cells by column name."""

    line: int
    cells: dict[str, str]


class Prepared(NamedTuple):
    """A checked table of reviews and what was changed to get it."""

    reviews: pd.DataFrame
    merged: int  # rows removed as exact duplicates or because their labels conflict
    conflicts: list[str]  # one entry per text with several labels


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def normalise(text: str) -> str:
    """The text in Unicode NFC, with white space collapsed to single spaces; half a surrogate pair becomes U+FFFD.

    A program that cuts a text inside an emoji leaves such a half. It cannot be written as UTF-8, so no request can
    contain it.
    """
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", whole)).strip()


def read_rows(path: Path, required: Iterable[str], *, hint: str = NAME_COLUMNS) -> list[CsvRow]:
    """Read the rows of a UTF-8 CSV file with a header.

    Args:
        path: the file.
        required: names of columns that it must have.
        hint: what to do if a column is missing; ends the error message.

    Raises:
        DataError: the file does not exist, is not UTF-8 or has no rows; a required column is missing; a row is broken.
    """
    reader = csv.DictReader(io.StringIO(decoded(path)), strict=True)
    try:
        header = list(reader.fieldnames or [])
    except csv.Error as error:
        raise DataError(f"{path} line 1: {error}; save the file as a CSV with ordinary line breaks") from error
    _check_header(path, header, required, hint)
    try:
        rows = list(_rows(path, reader, len(header)))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num + 1}: {error}; is a double quote left open?") from error
    if not rows:
        raise DataError(f"{path}: no reviews below the header; add labelled reviews, at least 100 are advised")
    return rows


def prepare(path: Path, data: DataConfig) -> Prepared:
    """Check every row against the data set's configuration, merge exact duplicates, resolve conflicts.

    If `data.mask_personal` is set, personal data is masked before duplicates are searched.

    Raises:
        DataError: as `read_rows`; an unknown label; an empty or too long review; conflicting labels under the
            policy `refuse`; fewer than MIN_ROWS_PER_LABEL rows of a label.
    """
    columns = data.columns
    required = [columns.text, columns.label, *filter(None, (columns.id, columns.second_label)), *data.slices]
    rows = read_rows(path, required)
    refuse_faults(path, row_faults(rows, data))
    table = pd.DataFrame([_record(row, data) for row in rows], columns=[*COLUMNS, *data.slices], dtype=str)
    _refuse_repeated_ids(path, table)
    kept, conflicts = mask_and_merge(path, table, data)
    _refuse_rare_labels(path, kept, data)
    return Prepared(kept, len(table) - len(kept), conflicts)


def mask_and_merge(path: Path, table: pd.DataFrame, data: DataConfig) -> tuple[pd.DataFrame, list[str]]:
    """Mask personal data if data.mask_personal is set, merge exact duplicates, resolve conflicts by data.conflicts.

    Args:
        path: the file that the table was read from, for messages.
        table: reviews; the columns review_id, text and label are used.
        data: the data set's configuration.

    Returns:
        The remaining rows, and one entry per text with several labels.

    Raises:
        DataError: conflicting labels under the policy `refuse`.
    """
    if data.mask_personal:
        table = table.assign(text=[mask(text, data.language) for text in table["text"]])
    return _merge_duplicates(path, table, data)


def read_reviews(path: Path) -> pd.DataFrame:
    """Read a table that `write_reviews` wrote."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_reviews(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")


def decoded(path: Path) -> str:
    """The file's text, without a byte order mark.

    Raises:
        DataError: the file does not exist or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; put the file there, or correct its name: on the command line or as `path` in "
            "conf/data/"
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8 "
            f"(`iconv -f CP1252 -t UTF-8` for Western, `iconv -f CP949 -t UTF-8` for Korean Windows files)"
        ) from error


def row_faults(rows: Sequence[CsvRow], data: DataConfig) -> list[Fault]:
    """The rows that `prepare` refuses: the review is empty or too long, or a label is missing or unknown."""
    messages = ((row.line, _text_fault(row, data) or _label_fault(row, data)) for row in rows)
    return [Fault(line, message) for line, message in messages if message]


def review_id(row: CsvRow, columns: ColumnsConfig) -> str:
    """The row's cell in the id column, or its line if there is no such column."""
    return row.cells[columns.id].strip() if columns.id else f"line-{row.line}"


def labels_of(row: CsvRow, columns: ColumnsConfig) -> tuple[str, str]:
    """The label and the second annotator's, which is empty if there is none."""
    return row.cells[columns.label].strip(), row.cells[columns.second_label].strip() if columns.second_label else ""


def _check_header(path: Path, header: Sequence[str], required: Iterable[str], hint: str) -> None:
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        times = header.count(repeated[0])
        raise DataError(f"{path}: the header has column '{repeated[0]}' {times} times; rename one")
    if missing := [name for name in required if name not in header]:
        present = f"it has {', '.join(header)}" if header else "it is empty"
        separator = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), None)
        step = f"separate the columns with commas, not {separator!r}" if separator else hint
        raise DataError(f"{path}: no column '{missing[0]}': {present}; {step}")


def _rows(path: Path, reader: "csv.DictReader[str]", width: int) -> Iterator[CsvRow]:
    for cells in reader:
        if None in cells or None in cells.values():
            raise DataError(
                f"{path} line {reader.line_num}: {_width(cells)} cells, the header has {width}; "
                "put text with commas or line breaks in double quotes"
            )
        yield CsvRow(reader.line_num, cells)


def _width(cells: dict[str, str]) -> int:
    present = [value for key, value in cells.items() if key is not None and value is not None]
    return len(present) + len(cells.get(None, []))  # type: ignore[call-overload] # csv's key for surplus cells


def _text_fault(row: CsvRow, data: DataConfig) -> str | None:
    text = normalise(row.cells[data.columns.text])
    if not text:
        return "the review is empty; remove the row or fill in its text"
    if len(text) > data.max_characters:
        return (
            f"a review of {len(text)} characters, at most {data.max_characters} are allowed; "
            "shorten it or raise data.max_characters"
        )
    return None


def _label_fault(row: CsvRow, data: DataConfig) -> str | None:
    label, second = labels_of(row, data.columns)
    unknown = next((name for name in (label, second) if name and name not in data.labels), None)
    allowed = f"allowed are {', '.join(data.labels)}"
    if not label:
        return f"no label; {allowed}"
    if unknown is None:
        return None
    near = difflib.get_close_matches(unknown, data.labels, n=1)
    hint = f"did you mean '{near[0]}'?" if near else allowed
    return f"label '{unknown}' is not one of {counted(len(data.labels), 'label')}; {hint}"


def _record(row: CsvRow, data: DataConfig) -> tuple[str, ...]:
    cells, columns = row.cells, data.columns
    slices = (cells[name].strip() for name in data.slices)
    return (review_id(row, columns), normalise(cells[columns.text]), *labels_of(row, columns), data.language, *slices)


def _refuse_repeated_ids(path: Path, table: pd.DataFrame) -> None:
    if repeated := [name for name, count in Counter(table["review_id"]).items() if count > 1]:
        raise DataError(f"{path}: several rows have the review id '{repeated[0]}'; make the ids unique")


def _merge_duplicates(path: Path, table: pd.DataFrame, data: DataConfig) -> tuple[pd.DataFrame, list[str]]:
    """One row per text, whatever its case; and the texts with several labels."""
    same_text = table.groupby(table["text"].str.casefold(), sort=False)
    conflicting = [group for _, group in same_text if group["label"].nunique() > 1]
    conflicts = [", ".join(f"{r.review_id}={r.label}" for r in group.itertuples()) for group in conflicting]
    if conflicts and data.conflicts == "refuse":
        raise DataError(
            f"{path}: several labels for {counted(len(conflicts), 'review text')} ({'; '.join(conflicts[:5])}); "
            "agree on one, or choose data.conflicts=majority or drop"
        )
    for group in conflicting:
        majority = _majority(group["label"]) if data.conflicts == "majority" else None
        table = table.drop(group.index[group["label"] != majority])
    return table[~table["text"].str.casefold().duplicated()].reset_index(drop=True), conflicts


def _majority(labels: pd.Series) -> str | None:
    """The most frequent label; None for a tie."""
    (label, count), (_, runner_up) = Counter(labels).most_common(2)
    return str(label) if count > runner_up else None


def _refuse_rare_labels(path: Path, table: pd.DataFrame, data: DataConfig) -> None:
    counts = Counter(table["label"])
    if len(counts) == 1:
        raise DataError(f"{path}: all reviews have the label '{next(iter(counts))}'; a classifier needs two or more")
    if rare := [name for name in data.labels if counts[name] < MIN_ROWS_PER_LABEL]:
        others = f" (the same is true of {', '.join(rare[1:])})" if rare[1:] else ""
        raise DataError(
            f"{path}: label '{rare[0]}' has {counted(counts[rare[0]], 'review')}, training and testing need at least "
            f"{MIN_ROWS_PER_LABEL}{others}; label more, or remove it from conf/data/"
        )
