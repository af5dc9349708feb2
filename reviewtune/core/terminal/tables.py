"""Tables for the terminal, whatever its width: cells wrap between words, and no word or number is cut in two.

On a narrow terminal a table first leaves out its spare columns. If the longest words still do not fit next to each
other, each row becomes a block of lines `heading: cell`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        heading: shown above it, and before its cells in a block.
        right: align it on the right, as numbers are; its cells are never wrapped, only its heading.
        spare: left out where the terminal is narrow; the column with the highest number first. 0: never.
        style: rich's style of its cells.
    """

    heading: str
    right: bool = False
    spare: int = 0
    style: str = ""


class FittedTable:
    """A table that rich prints as wide as the terminal allows.

    Args:
        columns: columns, or only their headings.
        title: a line above the table.
        header: show the headings.
        box: rich's box; None: only spaces between the columns.
    """

    def __init__(self, *columns: Column | str, title: str = "", header: bool = True, box: "Box | None" = None) -> None:
        self._columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self._title, self._header, self._box = title, header, box
        self._rows: list[list[Text]] = []

    @classmethod
    def of(
        cls, columns: "Sequence[Column | str]", rows: "Iterable[Sequence[str]]", *, title: str = "", box: "Box | None"
    ) -> Self:
        """A table with these rows; the arguments are those of the class, and one cell per column."""
        table = cls(*columns, title=title, box=box)
        for row in rows:
            table.add_row(*row)
        return table

    @property
    def row_count(self) -> int:
        return len(self._rows)

    def add_row(self, *cells: "str | Text") -> None:
        """Add one cell per column; a string is printed as it is, without rich's markup."""
        from rich.text import Text

        self._rows.append([Text(cell) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        if self._title:
            yield _wrapped(Text(self._title, style="table.title"), options.max_width)
        shown = list(range(len(self._columns)))
        spare = sorted((at for at in shown if self._columns[at].spare), key=lambda at: (self._columns[at].spare, -at))
        while not (widths := self._widths(shown, options.max_width)) and spare:
            shown.remove(spare.pop())
        yield self._table(shown, widths) if widths else _wrapped(self._blocks(), options.max_width)

    def _widths(self, shown: Sequence[int], available: int) -> list[int]:
        """Characters for each shown column, so that every word fits; empty if they do not fit."""
        texts = [self._texts(at) for at in shown]
        widths = [self._least(at) for at in shown]
        wishes = [max(map(_longest_line, column), default=1) for column in texts]
        rest = available - self._frame(len(shown)) - sum(widths)
        if rest < 0:
            return []
        if rest >= sum(wishes) - sum(widths):
            return wishes
        for _ in range(rest):  # a character more for the column whose cells are the highest
            heights = [
                max(_height(text, width) for text in column) if width < wish else 0
                for column, width, wish in zip(texts, widths, wishes, strict=True)
            ]
            widths[heights.index(max(heights))] += 1
        return widths

    def _least(self, at: int) -> int:
        """Characters below which a word, or a number with its interval, would be cut."""
        column = self._columns[at]
        longest = _longest_line if column.right else _longest_word
        heading = _longest_word(column.heading) if self._header else 0
        return max([heading, 1, *(longest(row[at].plain) for row in self._rows)])

    def _texts(self, at: int) -> list[str]:
        """The cells of a column, with its heading."""
        return [row[at].plain for row in self._rows] + ([self._columns[at].heading] if self._header else [])

    def _frame(self, columns: int) -> int:
        """Characters of a line that are not in a cell: two per column, and the box's own."""
        return 2 * columns + (columns + 1 if self._box else 0)

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=self._box, show_header=self._header)
        for at, width in zip(shown, widths, strict=True):
            column = self._columns[at]
            table.add_column(
                _wrapped(Text(column.heading), width),
                justify="right" if column.right else "left",
                width=width,
                style=column.style,
            )
        for row in self._rows:
            table.add_row(*(_wrapped(row[at], width) for at, width in zip(shown, widths, strict=True)))
        return table

    def _blocks(self) -> "Text":
        from rich.text import Text

        blocks = []
        for row in self._rows:
            headings = [column.heading for column in self._columns] if self._header else [row[0].plain]
            cells = row if self._header else [Text(" ").join(row[1:])]
            named = [(heading, cell) for heading, cell in zip(headings, cells, strict=True) if cell.plain]
            lines = [Text.assemble(heading, ": " if heading else "", cell) for heading, cell in named]
            blocks.append(Text("\n").join(lines))
        return Text("\n\n" if self._header else "\n").join(blocks)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _height(text: str, width: int) -> int:
    """Lines that the text takes when it is wrapped between words."""
    return sum(1 + len(_breaks(line, width)) for line in text.split("\n"))


def _wrapped(text: "Text", width: int) -> "Text":
    """Wrapped between words; rich's own wrapping cuts a line of wide characters that ends with a space."""
    from rich.text import Text

    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        parts = line.divide(_breaks(line.plain, width))
        for part in parts:
            part.rstrip()
        lines += parts
    return Text("\n", style=text.style).join(lines)


def _breaks(line: str, width: int) -> list[int]:
    """Positions of the words with which a new line begins."""
    breaks: list[int] = []
    for number, word in enumerate(re.finditer(r"\S+", line)):
        start = breaks[-1] if breaks else 0
        if number and cell_len(line[start : word.end()]) > width:
            breaks.append(word.start())
    return breaks
