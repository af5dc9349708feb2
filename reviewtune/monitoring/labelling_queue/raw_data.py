"""Append labelled reviews to the raw data of a project: a CSV stays what it is, and git shows added lines only.

Encoding, byte order mark, separator and line ends are kept. Every new content is parsed and compared with the old one
before it replaces the file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reviewtune.core.atomic_files import write_bytes
from reviewtune.core.config.config import Config
from reviewtune.core.config.data import DataConfig
from reviewtune.core.normalisation import normalise
from reviewtune.core.project import ProjectPaths
from reviewtune.core.text_files import MARKS
from reviewtune.data import delimited_text
from reviewtune.data.reviews import labels_of, read_reviews
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.sides.review_key import review_key
from reviewtune.data.tables import Table, read_bytes, read_table
from reviewtune.errors import DataError

LABELLED_ON, LABEL_SOURCE = "labelled_on", "label_source"
"""Columns with the date of the merge (ISO 8601) and the queue, such as `q1a2b3c4 audit`."""


class RawData(NamedTuple):
    """The table, and the line and the label of each of its reviews by hash."""

    table: Table
    labels: dict[str, tuple[int, str]]


def read_raw(config: Config, root: Path) -> RawData:
    """Read the raw data.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row has too few or too many cells.
    """
    data, columns = config.data, config.data.columns
    table = read_table(root / data.path, may_be_empty=True)
    table.require([columns.text, columns.label, *filter(None, [columns.id])])
    table.refuse_faults()
    keys = [review_key(normalise(row.cells[columns.text]), data.language) for row in table.rows]
    labels = {key: (row.line, labels_of(row, columns)[0]) for key, row in zip(keys, table.rows, strict=True)}
    return RawData(table, labels)


def reviews_of_test(raw: RawData, config: Config, root: Path) -> tuple[list[str], set[str]]:
    """The test reviews: texts of data/splits and of the raw data, and the hashes of all that are frozen."""
    paths, column = ProjectPaths(root), config.data.columns.text
    sides = read_frozen(paths.frozen_splits) if paths.frozen_splits.exists() else {}
    frozen = {key for key, side in sides.items() if side == "test"}
    lines = {line for key, (line, _) in raw.labels.items() if key in frozen}
    texts = [normalise(row.cells[column]) for row in raw.table.rows if row.line in lines]
    split = read_reviews(paths.splits.test)["text"].tolist() if paths.splits.test.exists() else []
    return list(dict.fromkeys([*texts, *split])), frozen


def refuse_unwritable(raw: RawData) -> None:
    """Refuse raw data that cannot be appended to.

    Raises:
        DataError: it is an .xlsx, or a link into DVC's cache.
    """
    path = raw.table.path
    if raw.table.kind == "xlsx":
        raise DataError(
            f"{path}: labels are appended to a CSV only, because rewriting an .xlsx would lose pictures and formats; "
            "save it as CSV UTF-8, name that file in conf/data/ (path), run `make params`, then the same command again"
        )
    if path.is_symlink() and ".dvc" in path.resolve().parts:
        raise DataError(f"{path}: a link into DVC's cache, which must not change; run `dvc unprotect {path}` first")


def missing_columns(raw: RawData) -> list[str]:
    """Those of LABELLED_ON and LABEL_SOURCE that the file lacks."""
    return [name for name in (LABELLED_ON, LABEL_SOURCE) if name not in raw.table.columns]


def append(raw: RawData, rows: Sequence[Mapping[str, str]], *, new_columns: Sequence[str] = ()) -> None:
    """Append rows in one step: the file has all of them or none.

    Args:
        raw: the raw data.
        rows: cells by column; columns that the file lacks are left out.
        new_columns: added at the end of each line first; their cells in older rows are empty.

    Raises:
        DataError: the file changed since it was read, or its rows could not be read back as they must be.
    """
    path, encoding = raw.table.path, raw.table.encoding
    content = read_bytes(path)
    if delimited_text.decoded(content, path) != raw.table.text:
        raise DataError(f"{path}: it changed meanwhile; run the same command again")
    text = _appended(_widened(raw.table.text, new_columns, path), rows, path)
    mark = next((mark for mark, name in MARKS.items() if name == encoding and content.startswith(mark)), b"")
    write_bytes(mark + text.encode(encoding), path)


def unused_id(wanted: str | None, key: str, used: set[str]) -> str:
    """An id that no review of the raw data has: the wanted one, otherwise one made of the hash."""
    if wanted and wanted not in used:
        return wanted
    return next(name for digits in range(10, len(key) + 1) if (name := f"q-{key[:digits]}") not in used)


def columns_to_carry(table: Table, data: DataConfig) -> list[str]:
    """Columns of the raw data whose cells may be taken over from the file of new reviews."""
    own = {data.columns.text, data.columns.label, data.columns.id, data.columns.second_label, data.columns.split}
    return [name for name in table.columns if name not in own and name not in (LABELLED_ON, LABEL_SOURCE)]


def _appended(text: str, rows: Sequence[Mapping[str, str]], path: Path) -> str:
    separator, before = delimited_text.rows(text, path)
    header = [normalise(name) for name in next(cells for _, cells in before if any(map(normalise, cells)))]
    cells = [[row.get(name, "") if name else "" for name in header] for row in rows]
    end = _line_end(text)
    added = delimited_text.to_text(cells, separator=separator, end=end)
    whole = text + ("" if not text or text.endswith("\n") else end) + added
    if [row for _, row in delimited_text.rows(whole, path)[1]] != [row for _, row in before] + cells:
        raise DataError(f"{path}: rows cannot be appended so that the others stay as they are; nothing was changed")
    return whole


def _widened(text: str, columns: Sequence[str], path: Path) -> str:
    """The text with empty cells, or the name in the header, at the end of each row; all else stays as it is."""
    if not columns:
        return text
    separator, rows = delimited_text.rows(text, path)
    filled = [row for row in rows if any(map(normalise, row[1]))]
    if not filled or any(len(cells) != len(filled[0][1]) for _, cells in rows if cells):
        raise DataError(
            f"{path}: its rows differ in width, so no column can be added; add columns {' and '.join(columns)} "
            "yourself, or use --keep-columns"
        )
    starts = [line for line, cells in rows if cells]
    lines = text.split("\n")
    for line, next_line in zip(starts, [*starts[1:], None], strict=True):
        names = columns if line == filled[0][0] else [""] * len(columns)
        last = _last_line(lines, line, next_line)
        body = lines[last].removesuffix("\r")
        lines[last] = body + "".join(separator + name for name in names) + lines[last][len(body) :]
    return _checked("\n".join(lines), rows, columns, path)


def _last_line(lines: Sequence[str], line: int, next_line: int | None) -> int:
    """Index of the last line of the row that begins on `line`; blank lines after it belong to no row."""
    last = (next_line - 2) if next_line else len(lines) - 1
    while last > line - 1 and not lines[last].strip("\r"):
        last -= 1
    return last


def _checked(text: str, before: delimited_text.Numbered, columns: Sequence[str], path: Path) -> str:
    after = [cells for _, cells in delimited_text.rows(text, path)[1]]
    if [cells[: -len(columns)] if cells else cells for cells in after] != [cells for _, cells in before]:
        raise DataError(f"{path}: columns cannot be added so that the rest stays as it is; use --keep-columns")
    return text


def _line_end(text: str) -> str:
    match = re.search(r"\r?\n", text)
    return match[0] if match else "\n"
