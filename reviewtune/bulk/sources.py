"""The files to classify: one, or those of a folder in the order of their names; each is read row by row.

A row has a number: the line on which it begins in a CSV, its place in a Parquet file, where the first is 1.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from reviewtune.bulk import parquet_files
from reviewtune.core.config.data import ColumnsConfig
from reviewtune.core.formatting import listed
from reviewtune.data.faults import Fault
from reviewtune.data.reviews import text_column_of
from reviewtune.data.spreadsheets import is_spreadsheet
from reviewtune.data.tables import Row, Table, refuse_stream, stream_csv_with_faults
from reviewtune.errors import DataError

ENDINGS = (".csv", ".tsv", ".parquet")
SHOWN = 3
BLOCK = 2**20  # bytes that are hashed at a time


class SourceRow(NamedTuple):
    """A row to classify.

    Attributes:
        number: its line or its place.
        text: the review.
        kept: the values of the columns that are copied; None: missing.
        fault: why the row cannot be read; None: it was.
    """

    number: int
    text: str
    kept: tuple[str | None, ...]
    fault: str | None = None


class Content(NamedTuple):
    """What a file contained when the work began.

    Attributes:
        sha256: of its bytes, in hex.
        size: bytes.
        changed_at: when it was last written, in ns since 1970.
        rows: rows of a Parquet file; line breaks of a CSV, which are about as many.
    """

    sha256: str
    size: int
    changed_at: int
    rows: int


@dataclass(frozen=True)
class Source:
    """A file with its columns.

    Args:
        path: the file.
        is_parquet: else it is a CSV.
        text: the column with the reviews.
        keep: the columns whose values are copied.
    """

    path: Path
    is_parquet: bool
    text: str
    keep: tuple[str, ...]

    def rows(self, skip: int = 0) -> Iterator[SourceRow]:
        """The rows, without the first `skip`.

        Raises:
            DataError: the file cannot be read further.
        """
        return self._parquet_rows(skip) if self.is_parquet else islice(self._csv_rows(), skip, None)

    def content(self) -> Content:
        """What the file contains now; reads it once.

        Raises:
            DataError: it was changed meanwhile, or is damaged.
        """
        digest, breaks, (size, changed_at) = hashlib.sha256(), 0, self.stamp()
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                breaks += block.count(b"\n")
        self.refuse_changed(size, changed_at)
        rows = parquet_files.row_count(self.path) if self.is_parquet else breaks
        return Content(digest.hexdigest(), size, changed_at, rows)

    def stamp(self) -> tuple[int, int]:
        """Its size in bytes, and when it was last written, in ns since 1970."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def refuse_changed(self, size: int, changed_at: int) -> None:
        """Refuse a file that is not as it was.

        Raises:
            DataError: it was written or removed.
        """
        if not self.path.exists():
            raise DataError(f"{self.path}: the file was removed while it was read; put it back and run this again")
        if self.stamp() != (size, changed_at):
            raise DataError(
                f"{self.path}: the file was changed while it was read; the rows so far are those of the old content, "
                "so start anew: delete the folder of the parts, or name another one with --out"
            )

    def _csv_rows(self) -> Iterator[SourceRow]:
        for row in stream_csv_with_faults(self.path)[1]:
            if isinstance(row, Row):
                yield SourceRow(row.line, row.cells[self.text], tuple(row.cells[name] for name in self.keep))
            else:
                yield _unreadable(row, len(self.keep))

    def _parquet_rows(self, skip: int) -> Iterator[SourceRow]:
        rows = parquet_files.stream(self.path, [self.text, *self.keep], skip=skip)
        for number, (text, *kept) in enumerate(rows, start=skip + 1):
            yield SourceRow(number, text or "", tuple(kept))


def find_sources(
    place: Path, columns: ColumnsConfig, *, text_column: str | None, keep: Sequence[str]
) -> tuple[list[Source], str]:
    """The files in the order of their names, each with its columns, and a note on files that are left out.

    Args:
        place: a CSV or Parquet file, or a folder of them; its subfolders are not read.
        columns: of the data set, one of which usually holds the reviews.
        text_column: the column with the reviews; None: as `text_column_of`.
        keep: columns whose values are copied.

    Raises:
        DataError: there is no such file, a file has no such column, or it cannot be read.
    """
    refuse_stream(place)
    if not place.exists():
        raise DataError(f"{place}: no such file or folder; correct its name")
    paths, left_out = _files(place) if place.is_dir() else ([place], [])
    sources = [_source(path, columns, text_column=text_column, keep=tuple(keep)) for path in paths]
    note = f"{place}: only {', '.join(ENDINGS)} are read, not {listed(left_out, shown=SHOWN)}" if left_out else ""
    return sources, note


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """The files to read, and the names of what else is there; hidden files and such as _SUCCESS are not mentioned."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    read = [path for path in visible if path.is_file() and path.suffix.lower() in ENDINGS]
    if not read:
        raise DataError(f"{folder}: no file in it ends with {', '.join(ENDINGS)}; name the folder with the reviews")
    return read, [path.name for path in visible if path not in read]


def _source(path: Path, columns: ColumnsConfig, *, text_column: str | None, keep: tuple[str, ...]) -> Source:
    _refuse_spreadsheet(path)
    is_parquet = parquet_files.is_parquet(path)
    names = parquet_files.column_names(path) if is_parquet else stream_csv_with_faults(path)[0]
    table = Table(path, "csv", names, rows=(), empty_rows=0, faults=())
    text = text_column_of(table, text_column, columns.text)
    table.require(keep, hint="choose others with --keep")
    if is_parquet:
        parquet_files.refuse_other_types(path, [text, *keep])
    return Source(path, is_parquet, text, keep)


def _refuse_spreadsheet(path: Path) -> None:
    with path.open("rb") as file:
        if is_spreadsheet(file.read(8)):
            raise DataError(
                f"{path}: an .xlsx is not read in parts; save it as a CSV, or name a file with --out: sorted.xlsx"
            )


def _unreadable(fault: Fault, kept: int) -> SourceRow:
    return SourceRow(fault.line, "", (None,) * kept, fault.message)
