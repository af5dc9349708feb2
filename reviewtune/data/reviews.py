"""Labelled reviews: read a user's table, check it, and return one normalised table.

A table of reviews is a pandas DataFrame of strings with the columns
`review_id, text, label, label_second, language` and the data set's slice columns. `label_second` may be empty. If the
file gives sides (data.columns.split), they are in the column `given_split`.
"""

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config.data import ColumnsConfig, DataConfig
from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.data.personal_data import mask
from reviewtune.data.sides.side_names import GIVEN, WORDS, most_protected, side_of
from reviewtune.data.similarity.exact_repeats import exact_repeats
from reviewtune.data.tables import Row, Table, read_table
from reviewtune.errors import DataError

MIN_ROWS_PER_LABEL = 4  # with fewer, a label cannot be in the training, validation and test split
ADVISED_EXAMPLES = 100
ADVISED_PER_LABEL = 10
COLUMNS = ("review_id", "text", "label", "label_second", "language")
TEXT_COLUMNS = ("text", "review_text", "review")  # where a review is looked for if conf/data names another column
BETWEEN_LABELS = (re.compile(r"[,;|\n]"), re.compile(r"[/+&]|\band\b"))  # the second also occur within labels


class Prepared(NamedTuple):
    """A checked table of reviews and what was changed to get it."""

    reviews: pd.DataFrame
    merged: int  # rows removed as exact duplicates or because their labels conflict
    conflicts: list[str]  # one entry per text with several labels
    empty_rows: int = 0  # rows without content, which were skipped


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(path: Path, data: DataConfig) -> Prepared:
    """Check every row against the data set's configuration, merge exact duplicates, resolve conflicts.

    If `data.mask_personal` is set, personal data is masked before duplicates are searched.

    Raises:
        DataError: as `read_table`; a missing column; an unknown label; an empty or too long review; conflicting labels
            under the policy `refuse`; fewer than MIN_ROWS_PER_LABEL rows of a label.
    """
    columns, source = data.columns, read_table(path)
    named = [columns.text, columns.label, *filter(None, (columns.id, columns.second_label, columns.split))]
    source.require([*named, *data.slices])
    refuse_faults(path, row_faults(source, data))
    table = pd.DataFrame([_record(row, data) for row in source.rows], dtype=str)
    refuse_repeated_ids(path, table)
    kept, conflicts = mask_and_merge(path, table, data)
    refuse_rare_labels(path, kept, data)
    return Prepared(kept, len(table) - len(kept), conflicts, source.empty_rows)


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


def row_faults(table: Table, data: DataConfig) -> list[Fault]:
    """The rows that `prepare` refuses.

    They have too few or too many cells, the review is empty or too long, a label is missing, unknown, or one of
    several, or the side is unknown.
    """
    found = (_text_fault(row, data) or _label_fault(row, data) or _side_fault(row, data) for row in table.rows)
    faults = [fault for fault in found if fault]
    return sorted([*table.faults, *faults], key=lambda fault: fault.line)


def review_id(row: Row, columns: ColumnsConfig) -> str:
    """The row's cell in the id column, or its line if there is no such column."""
    return normalise(row.cells[columns.id]) if columns.id else f"line-{row.line}"


def text_column_of(table: Table, given: str | None, configured: str) -> str:
    """The column that holds new reviews: the given one, that of conf/data, one with a usual name, or the only one.

    Args:
        table: new reviews.
        given: what the user named with --text-column.
        configured: the column of the labelled reviews, as conf/data names it.

    Raises:
        DataError: there is no such column.
    """
    if given is not None:
        table.require([given], hint="choose one of them with --text-column")
        return given
    usual = next((name for name in (configured, *TEXT_COLUMNS) if name in table.columns), None)
    if usual is None and len(table.columns) == 1:
        return table.columns[0]
    if usual is None:
        table.require([configured], hint="name the column with the reviews with --text-column")
    return usual or configured


def labels_of(row: Row, columns: ColumnsConfig) -> tuple[str, str]:
    """The label and the second annotator's, which is empty if there is none."""
    second = normalise(row.cells[columns.second_label]) if columns.second_label else ""
    return normalise(row.cells[columns.label]), second


def given_side(row: Row, columns: ColumnsConfig) -> str:
    """The side that the row gives its review; empty if it gives none."""
    return side_of(normalise(row.cells[columns.split])) or "" if columns.split else ""


def labels_in(cell: str, labels: Collection[str]) -> list[str]:
    """The labels in a cell that holds several, such as "invoice copy, dark mode"; empty for any other cell.

    A part that is not a label counts too if another part is one: it may be misspelt.
    """
    return [] if cell in labels else _parts(cell, labels)


def single_labels(cells: Collection[str]) -> list[str]:
    """The labels of a file that nothing describes: its different label cells, sorted, without those that hold several.

    A cell holds several if all its parts are cells too.
    """
    known = set(cells)
    parts = {cell: _parts(cell, known) for cell in known}
    return sorted(cell for cell in known if not parts[cell] or not all(part in known for part in parts[cell]))


def _parts(cell: str, labels: Collection[str]) -> list[str]:
    for separators in BETWEEN_LABELS:
        parts = [part for text in separators.split(cell) if (part := normalise(text).strip(" []'\""))]
        if len(parts) > 1 and any(part in labels for part in parts):
            return parts
    return []


def _text_fault(row: Row, data: DataConfig) -> Fault | None:
    text = normalise(row.cells[data.columns.text])
    if not text:
        return Fault(row.line, "the review is empty; remove the row or fill in its text")
    if len(text) > data.max_characters:
        message = (
            f"a review of {len(text)} characters, at most {data.max_characters} are allowed; "
            "shorten it or raise data.max_characters"
        )
        return Fault(row.line, message, text)
    return None


def _label_fault(row: Row, data: DataConfig) -> Fault | None:
    label, second = labels_of(row, data.columns)
    if not label:
        return Fault(row.line, f"no label; allowed are {', '.join(data.labels)}")
    if label not in data.labels:
        return Fault(row.line, unknown_label(row.cells[data.columns.label], data.labels), label)
    if second and second not in data.labels:
        return Fault(row.line, unknown_label(row.cells[data.columns.second_label or ""], data.labels), second)
    return None


def _side_fault(row: Row, data: DataConfig) -> Fault | None:
    column = data.columns.split
    cell = normalise(row.cells[column]) if column else ""
    if not cell or side_of(cell):
        return None
    near = difflib.get_close_matches(cell.casefold(), WORDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "allowed are train, validation, test, or an empty cell"
    return Fault(row.line, f"'{cell}' is not a side of the split (column {column}); {hint}", cell)


def unknown_label(cell: str, labels: Collection[str]) -> str:
    """What is wrong with a cell that is not a label, and what is allowed."""
    unknown = normalise(cell)
    if parts := labels_in(cell, labels):
        listed = " and ".join(f"'{part}'" for part in parts)
        return (
            f"'{unknown}' is several labels of one review ({listed}), which can have one only; keep the main one, add "
            "a label for both to conf/data/, or split the review"
        )
    near = difflib.get_close_matches(unknown, labels, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"allowed are {', '.join(labels)}"
    return f"label '{unknown}' is not one of {counted(len(labels), 'label')}; {hint}"


def _record(row: Row, data: DataConfig) -> dict[str, str]:
    """The row under the names of COLUMNS, and its slices; a slice `language` replaces the data set's language."""
    values = (review_id(row, data.columns), normalise(row.cells[data.columns.text]), *labels_of(row, data.columns))
    slices = {name: normalise(row.cells[name]) for name in data.slices}
    given = {GIVEN: given_side(row, data.columns)} if data.columns.split else {}
    return {**dict(zip(COLUMNS, (*values, data.language), strict=True)), **slices, **given}


def refuse_repeated_ids(path: Path, table: pd.DataFrame) -> None:
    """Refuse reviews of which two have the same id.

    Raises:
        DataError: with the id.
    """
    if repeated := [name for name, count in Counter(table["review_id"]).items() if count > 1]:
        raise DataError(f"{path}: several rows have the review id '{repeated[0]}'; make the ids unique")


class _LabelledRow(NamedTuple):
    position: int
    review_id: str
    label: str


def _merge_duplicates(path: Path, table: pd.DataFrame, data: DataConfig) -> tuple[pd.DataFrame, list[str]]:
    """One row per text, whatever its case; and the texts with several labels."""
    conflicting = _conflicting(table)
    conflicts = [", ".join(f"{row.review_id}={row.label}" for row in rows) for rows in conflicting]
    if conflicts and data.conflicts == "refuse":
        raise DataError(
            f"{path}: several labels for {counted(len(conflicts), 'review text')} ({'; '.join(conflicts[:5])}); "
            "agree on one, or choose data.conflicts=majority or drop"
        )
    majorities = [_majority(rows) if data.conflicts == "majority" else None for rows in conflicting]
    lost = [
        row.position for rows, kept in zip(conflicting, majorities, strict=True) for row in rows if row.label != kept
    ]
    table = _with_protected_sides(table.drop(lost))
    return table[~table["text"].str.casefold().duplicated()].reset_index(drop=True), conflicts


def _conflicting(table: pd.DataFrame) -> list[list[_LabelledRow]]:
    """The rows of each text with several labels."""
    rows = list(map(_LabelledRow, table.index, table["review_id"], table["label"]))
    groups = ([rows[position] for position in positions] for positions in exact_repeats(table["text"]))
    return [group for group in groups if len({row.label for row in group}) > 1]


def _with_protected_sides(table: pd.DataFrame) -> pd.DataFrame:
    """Of several sides that the file gives one text, the most protected one."""
    if GIVEN not in table:
        return table
    sides = table[GIVEN].tolist()
    for positions in exact_repeats(table["text"]):
        protected = most_protected(sides[position] for position in positions)
        for position in positions:
            sides[position] = protected
    return table.assign(**{GIVEN: sides})


def _majority(rows: Sequence[_LabelledRow]) -> str | None:
    """The most frequent label; None for a tie."""
    (label, count), (_, runner_up) = Counter(row.label for row in rows).most_common(2)
    return label if count > runner_up else None


def refuse_rare_labels(path: Path, table: pd.DataFrame, data: DataConfig) -> None:
    """Refuse a single label, and labels with fewer than MIN_ROWS_PER_LABEL reviews.

    Raises:
        DataError: with the label and its number of reviews.
    """
    counts = Counter(table["label"])
    if len(counts) == 1:
        raise DataError(f"{path}: all reviews have the label '{next(iter(counts))}'; a classifier needs two or more")
    if rare := [name for name in data.labels if counts[name] < MIN_ROWS_PER_LABEL]:
        others = f" (the same is true of {', '.join(rare[1:])})" if rare[1:] else ""
        raise DataError(
            f"{path}: label '{rare[0]}' has {counted(counts[rare[0]], 'review')}, training and testing need at least "
            f"{MIN_ROWS_PER_LABEL}{others}; label more, or remove it from conf/data/"
        )
