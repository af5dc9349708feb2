"""Read a user's table, a CSV or an .xlsx, and write one. Every command that reads a table uses this module.

So all of them accept the same files, find the same columns, and name the same lines.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.core.outputs import STANDARD_STREAM
from reviewtune.core.text_files import encoding_of
from reviewtune.data import delimited_text, spreadsheets
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.errors import DataError

NAME_COLUMNS = "name your columns in conf/data/NAME.yaml, columns"
XLSX = ".xlsx"


class Row(NamedTuple):
    """A row of a table: the line on which it begins, where the first line of the file is 1, and its cells by column."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as it is in the file.

    Args:
        path: the file.
        kind: its format.
        columns: names in the header, normalised.
        rows: the rows with content; their cells are as in the file.
        empty_rows: number of rows without content, which are skipped.
        faults: rows with too few or too many cells, which are not in `rows`.
        encoding: such as utf-8; empty for an .xlsx.
        text: the file's text; empty for an .xlsx.
    """

    path: Path
    kind: Literal["csv", "xlsx"]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    empty_rows: int
    faults: tuple[Fault, ...]
    encoding: str = ""
    text: str = ""

    def require(self, columns: Iterable[str], *, hint: str = NAME_COLUMNS) -> None:
        """Refuse a table without these columns.

        Args:
            columns: names, as in `columns`.
            hint: what to do if one is missing; ends the error message.

        Raises:
            DataError: a column is missing.
        """
        if missing := [name for name in columns if name not in self.columns]:
            present = f"it has {', '.join(self.columns)}" if self.columns else "it is empty"
            raise DataError(f"{self.path}: no column '{missing[0]}': {present}; {hint}")

    def refuse_faults(self) -> None:
        """Refuse a table with rows that have too few or too many cells.

        Raises:
            DataError: with the first of them.
        """
        refuse_faults(self.path, self.faults)

    @property
    def skipped(self) -> str:
        """What to tell the user about empty rows; empty if there are none."""
        return f"{self.path}: {counted(self.empty_rows, 'empty row')} skipped" if self.empty_rows else ""


def read_bytes(path: Path) -> bytes:
    """The content of a file; `-` is standard input.

    Raises:
        DataError: there is no such file.
    """
    if path == STANDARD_STREAM:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; put the file there, or correct its name: on the command line or as `path` in "
            "conf/data/"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: this is a folder; name the file in it") from error


def refuse_stream(path: Path) -> None:
    """Refuse standard input and pipes, for commands that read a file several times.

    Raises:
        DataError: it is not a regular file.
    """
    if path == STANDARD_STREAM or (path.exists() and not path.is_file() and not path.is_dir()):
        raise DataError(f"{path}: this command needs a file; save the reviews as a CSV or an .xlsx, and give its name")


def read_table(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a table: a CSV in UTF-8 or UTF-16, separated by commas, semicolons, tabs or bars, or an .xlsx.

    The first row with content is the header.

    Args:
        path: the file; `-` is standard input.
        may_be_empty: whether a header without rows is accepted.

    Raises:
        DataError: the file does not exist, cannot be read with certainty, or has no rows; its header names a column
            twice or not at all.
    """
    content, name = read_bytes(path), Path("standard input") if path == STANDARD_STREAM else path
    if spreadsheets.is_spreadsheet(content):
        return _table(name, "xlsx", spreadsheets.sheet_rows(content, name), may_be_empty=may_be_empty)
    text = delimited_text.decoded(content, name)
    _refuse_other_text(text, name)
    table = _table(name, "csv", delimited_text.rows(text, name)[1], may_be_empty=may_be_empty)
    return replace(table, encoding=encoding_of(content), text=text)


def stream_csv(path: Path) -> tuple[tuple[str, ...], Iterator[Row]]:
    """The columns and the rows of a CSV of any size, as `read_table` reads it, but with the memory of one row.

    The separator is the one that fits the beginning of the file.

    Raises:
        DataError: as `read_table` and `Table.refuse_faults`; what is wrong with a row, when it is reached.
    """
    columns, rows = stream_csv_with_faults(path)

    def faultless() -> Iterator[Row]:
        for row in rows:
            if isinstance(row, Fault):
                refuse_faults(path, [row])
            else:
                yield row

    return columns, faultless()


def stream_csv_with_faults(path: Path) -> tuple[tuple[str, ...], Iterator[Row | Fault]]:
    """As `stream_csv`, but a row with too few or too many cells is handed out as a fault and does not end the stream.

    Raises:
        DataError: as `read_table`; what is wrong with the text itself, when it is reached.
    """
    filled = ((line, cells) for line, cells in delimited_text.stream(path) if any(map(normalise, cells)))
    _, header = next(filled, (1, []))
    _refuse_other_text(" ".join(header), path)
    names = [normalise(name) for name in header]
    places = _places(path, names, [])

    def rows() -> Iterator[Row | Fault]:
        for line, cells in filled:
            if "" in names:
                _refuse_unnamed(path, names, cells)
            yield _row(line, cells, places)

    return tuple(places), rows()


def read_rows(path: Path, required: Iterable[str], *, hint: str = NAME_COLUMNS) -> tuple[Row, ...]:
    """The rows of a table that has the required columns and no faulty row.

    Raises:
        DataError: as `read_table`, `Table.require` and `Table.refuse_faults`.
    """
    table = read_table(path)
    table.require(required, hint=hint)
    table.refuse_faults()
    return table.rows


def to_bytes(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, str]],
    path: Path,
    *,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> bytes:
    """The content of a table's file: an .xlsx if the path ends like that, otherwise a CSV in UTF-8.

    Args:
        columns: the header.
        rows: cells by column.
        path: the file to write.
        choices: values of a column, which the cells of an .xlsx offer as a list; a CSV cannot.
    """
    cells = [[row[name] for name in columns] for row in rows]
    if path.suffix.lower() == XLSX:
        return spreadsheets.to_xlsx(columns, cells, choices)
    return delimited_text.to_text([columns, *cells]).encode("utf-8", "replace")


def _table(path: Path, kind: Literal["csv", "xlsx"], numbered: delimited_text.Numbered, *, may_be_empty: bool) -> Table:
    filled = [(line, cells) for line, cells in numbered if any(map(normalise, cells))]
    header, *body = filled or [(1, [])]
    places = _places(path, [normalise(name) for name in header[1]], [cells for _, cells in body])
    if places and not body and not may_be_empty:
        raise DataError(f"{path}: no reviews below the header; add labelled reviews, at least 100 are advised")
    width = max(places.values(), default=-1) + 1
    padded = body if kind == "csv" else [(line, [*cells, *[""] * (width - len(cells))]) for line, cells in body]
    read = [_row(line, cells, places) for line, cells in padded]
    rows = tuple(one for one in read if isinstance(one, Row))
    faults = tuple(one for one in read if isinstance(one, Fault))
    return Table(path, kind, tuple(places), rows, len(numbered) - len(filled), faults)


def _row(line: int, cells: Sequence[str], places: Mapping[str, int]) -> Row | Fault:
    width = max(places.values(), default=-1) + 1
    if len(cells) < width or any(map(normalise, cells[width:])):
        return _width_fault(line, cells, width)
    return Row(line, {name: cells[place] for name, place in places.items()})


def _places(path: Path, names: Sequence[str], body: Sequence[Sequence[str]]) -> dict[str, int]:
    """The place of each named column; columns without a name are left out if they are empty."""
    if repeated := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
        raise DataError(f"{path}: the header has column '{repeated[0]}' {names.count(repeated[0])} times; rename one")
    for cells in body if "" in names else ():
        _refuse_unnamed(path, names, cells)
    return {name: place for place, name in enumerate(names) if name}


def _refuse_unnamed(path: Path, names: Sequence[str], cells: Sequence[str]) -> None:
    for place, (name, cell) in enumerate(zip(names, cells, strict=False)):
        if not name and normalise(cell):
            raise DataError(f"{path}: column {place + 1} has no name in the header; give it one, or remove the column")


def _width_fault(line: int, cells: Sequence[str], width: int) -> Fault:
    seen = f"{counted(len(cells), 'cell')}, the header has {width}"
    return Fault(line, f"{seen}; put text with separators or line breaks in double quotes", " ".join(cells))


def _refuse_other_text(text: str, path: Path) -> None:
    start = text.lstrip()[:200].lower()
    if start.startswith(("{", "[")) and not start.startswith("[]"):
        raise DataError(f"{path}: this is JSON, not a table; a CSV or an .xlsx with a header is needed here")
    if start.startswith(("<!doctype", "<html", "<?xml", "<table")):
        raise DataError(f"{path}: this is HTML or XML, not a table; {spreadsheets.SAVE_AS}")
