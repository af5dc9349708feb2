"""The rows of all files in blocks of equal size, each of which becomes a part; only the last one may be smaller."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reviewtune.bulk.sources import Source, SourceRow


class Position(NamedTuple):
    """How far the files were read: `rows` rows of the one with this index, and all before it."""

    file: int
    rows: int


START = Position(0, 0)
ReadWhole = Callable[[int, int], None]
"""Receives the index of a file that was read to its end, and its number of rows."""


@dataclass(frozen=True)
class Block:
    """Rows that follow each other.

    Args:
        rows: each with the index of its file.
        end: the position after the last one.
    """

    rows: tuple[tuple[int, SourceRow], ...]
    end: Position


def blocks(
    sources: Sequence[Source], size: int, *, start: Position = START, read_whole: ReadWhole = lambda index, rows: None
) -> Iterator[Block]:
    """The rows from a position on.

    Args:
        sources: the files.
        size: rows in a block, at least 1.
        start: the end of the last block that is not needed.
        read_whole: is told about each file that ends.

    Raises:
        DataError: a file cannot be read further.
    """
    rows, end = list[tuple[int, SourceRow]](), start
    for index in range(start.file, len(sources)):
        read = start.rows if index == start.file else 0
        for row in sources[index].rows(skip=read):
            read += 1
            rows.append((index, row))
            end = Position(index, read)
            if len(rows) == size:
                yield Block(tuple(rows), end)
                rows = []
        read_whole(index, read)
    if rows:
        yield Block(tuple(rows), end)
