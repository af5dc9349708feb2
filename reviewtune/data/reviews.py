"""Labelled reviews: a stranger's CSV in, one checked and normalised table out.

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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config import DataConfig
from reviewtune.data.personal_data import mask
from reviewtune.errors import DataError

MIN_ROWS_PER_LABEL = 4  # fewer, and a label cannot stand in the training, validation and test split
ADVISED_EXAMPLES = 100
ADVISED_PER_LABEL = 10
NAME_COLUMNS = "name your columns in conf/data/NAME.yaml, columns"
COLUMNS = ("review_id", "text", "label", "label_second", "language")


class Row(NamedTuple):
    """One line of a CSV file: where it stands (1 is the header) and its cells."""

    line: int
    cells: dict[str, str]


class Prepared(NamedTuple):
    reviews: pd.DataFrame
    merged: int  # exact duplicates that became one row
    conflicts: list[str]  # one line each: texts that bear several labels


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def normalise(text: str) -> str:
    """Unicode NFC, white space collapsed to single spaces; half of a surrogate pair becomes U+FFFD.

    Such a half is left where a program cuts a text inside an emoji. It cannot be written as UTF-8, so no request can
    carry it.
    """
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", whole)).strip()


def read_rows(path: Path, required: Iterable[str]) -> list[Row]:
    """Rows of a UTF-8 CSV file with a header.

    Raises:
        DataError: no such file, not UTF-8 (with the line), empty, a required column missing, or a broken row.
    """
    reader = csv.DictReader(io.StringIO(decoded(path)), strict=True)
    try:
        found = reader.fieldnames or []
    except csv.Error as error:
        raise DataError(f"{path} line 1: {error}; save the file as a CSV with ordinary line breaks") from error
    if repeated := [name for name, count in Counter(found).items() if count > 1]:
        raise DataError(
            f"{path}: column '{repeated[0]}' stands in the header {found.count(repeated[0])} times; rename one"
        )
    if missing := [name for name in required if name not in found]:
        have = f"it has {', '.join(found)}" if found else "it is empty"
        other = next((sign for sign in ";\t|" if len(found) == 1 and sign in found[0]), None)
        todo = f"separate the columns with commas, not {other!r}" if other else NAME_COLUMNS
        raise DataError(f"{path}: no column '{missing[0]}': {have}; {todo}")
    rows = []
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                raise DataError(
                    f"{path} line {reader.line_num}: {_width(cells)} cells, the header has {len(found)}; "
                    "put text with commas or line breaks in double quotes"
                )
            rows.append(Row(reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num + 1}: {error}; is a double quote left open?") from error
    if not rows:
        raise DataError(f"{path}: no reviews below the header; add labelled reviews, at least 100 are advised")
    return rows


def prepare(path: Path, data: DataConfig) -> Prepared:
    """Check every row against the data set's configuration, merge exact duplicates, settle conflicts.

    With `data.mask_personal` personal data is masked before duplicates are looked for, whoever calls.

    Raises:
        DataError: as `read_rows`; an unknown label; an empty or over-long review; conflicting labels under the
            policy `refuse`; fewer than MIN_ROWS_PER_LABEL rows of a label.
    """
    columns = data.columns
    wanted = [columns.text, columns.label, *filter(None, (columns.id, columns.second_label)), *data.slices]
    rows = read_rows(path, wanted)
    _refuse_first(path, [found for row in rows if (found := fault(row, data))])
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
    """A table that `prepare` or `split` wrote."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_reviews(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")


def decoded(path: Path) -> str:
    """The file's text, without a byte order mark.

    Raises:
        DataError: no such file, or not UTF-8, with the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; put the CSV there or mend the name: `path` in conf/data/, or what you typed"
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8 "
            f"(`iconv -f CP1252 -t UTF-8` for Western, `iconv -f CP949 -t UTF-8` for Korean Windows files)"
        ) from error


def _width(cells: dict[str, str]) -> int:
    present = [value for key, value in cells.items() if key is not None and value is not None]
    return len(present) + len(cells.get(None, []))  # type: ignore[call-overload] # csv's key for a surplus


def fault(row: Row, data: DataConfig) -> str | None:
    """What `prepare` refuses in a row, with its line and the way out; None for a good one."""
    text, label = normalise(row.cells[data.columns.text]), row.cells[data.columns.label].strip()
    if not text:
        return f"line {row.line}: the review is empty; remove the row or fill in its text"
    if len(text) > data.max_characters:
        return (
            f"line {row.line}: a review of {len(text)} characters, at most {data.max_characters} are allowed; "
            "shorten it or raise data.max_characters"
        )
    second = row.cells[data.columns.second_label].strip() if data.columns.second_label else ""
    unknown = next((name for name in (label, second) if name and name not in data.labels), None)
    if unknown is None and label:
        return None
    if not label:
        return f"line {row.line}: no label; allowed are {', '.join(data.labels)}"
    near = difflib.get_close_matches(unknown or "", data.labels, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"allowed are {', '.join(data.labels)}"
    return f"line {row.line}: label '{unknown}' is not one of {len(data.labels)} labels; {hint}"


def _refuse_first(path: Path, faults: Sequence[str]) -> None:
    if not faults:
        return
    lines = ", ".join(fault.split(":")[0].removeprefix("line ") for fault in faults[1:6])
    more = f" ({len(faults) - 1} more such rows: line {lines}{', ...' if len(faults) > 6 else ''})"
    raise DataError(f"{path} {faults[0]}{more if lines else ''}")


def _record(row: Row, data: DataConfig) -> tuple[str, ...]:
    cells, columns = row.cells, data.columns
    identity = cells[columns.id].strip() if columns.id else f"line-{row.line}"
    second = cells[columns.second_label].strip() if columns.second_label else ""
    slices = (cells[name].strip() for name in data.slices)
    return (identity, normalise(cells[columns.text]), cells[columns.label].strip(), second, data.language, *slices)


def _refuse_repeated_ids(path: Path, table: pd.DataFrame) -> None:
    if repeated := [name for name, count in Counter(table["review_id"]).items() if count > 1]:
        raise DataError(f"{path}: review id '{repeated[0]}' stands on several rows; ids must differ")


def _merge_duplicates(path: Path, table: pd.DataFrame, data: DataConfig) -> tuple[pd.DataFrame, list[str]]:
    same_text = table.groupby(table["text"].str.casefold(), sort=False)
    clashing = [group for _, group in same_text if group["label"].nunique() > 1]
    conflicts = [", ".join(f"{r.review_id}={r.label}" for r in group.itertuples()) for group in clashing]
    if conflicts and data.conflicts == "refuse":
        raise DataError(
            f"{path}: {len(conflicts)} review text(s) bear several labels ({'; '.join(conflicts[:5])}); "
            "agree on one, or choose data.conflicts=majority or drop"
        )
    for group in clashing:
        counts = group["label"].value_counts()
        decided = counts.index[0] if len(counts) == 1 or counts.iloc[0] > counts.iloc[1] else None
        keep = group.index[group["label"] == decided] if data.conflicts == "majority" else group.index[:0]
        table = table.drop(group.index.difference(keep))
    return table[~table["text"].str.casefold().duplicated()].reset_index(drop=True), conflicts


def _refuse_rare_labels(path: Path, table: pd.DataFrame, data: DataConfig) -> None:
    counts = Counter(table["label"])
    if len(counts) == 1:
        raise DataError(f"{path}: every review bears the label '{next(iter(counts))}'; a classifier needs two or more")
    if rare := [name for name in data.labels if counts[name] < MIN_ROWS_PER_LABEL]:
        others = f" (nor do {', '.join(rare[1:])})" if rare[1:] else ""
        raise DataError(
            f"{path}: label '{rare[0]}' has {counts[rare[0]]} review(s), fewer than the {MIN_ROWS_PER_LABEL} that it "
            f"takes to train and test it{others}; label more, or take it out of conf/data/"
        )
