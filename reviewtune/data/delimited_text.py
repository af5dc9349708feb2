"""The rows of a CSV: which sign separates the columns, and the line on which each row begins."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewtune.core import text_files
from reviewtune.errors import DataError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
NO_SEPARATOR = "\ufdd0"  # no character: a header of one column has no separator, so commas are part of the cells
DECLARED = re.compile(r'"?sep=(?P<separator>[^\r\n])"?[,;\t|]*\r?(?:\n|$)', re.IGNORECASE)
"""The first line that names the separator for Excel."""
OTHER_FILES = {
    b"PK\x03\x04": "a spreadsheet or another archive",
    b"\xd0\xcf\x11\xe0": "a file of an old Office program",
    b"\x1f\x8b": "a gzip file, to be unpacked with `gunzip`",
    b"%PDF": "a PDF",
}
QUOTED = re.compile(r'"(?:[^"]|"")*"')
LONGEST_HEADER = 10_000  # characters in which the header is looked for
Numbered = list[tuple[int, list[str]]]


def decoded(content: bytes, path: Path) -> str:
    """The text of a file, if its encoding is certain.

    Args:
        content: the file.
        path: its name, for messages.

    Raises:
        DataError: the encoding is not certain, the file is not text, or its lines end as on old Macs.
    """
    if kind := next((kind for mark, kind in OTHER_FILES.items() if content.startswith(mark)), None):
        raise DataError(f"{path}: this is {kind}; a text file is needed here")
    try:
        text = text_files.decode(content)
    except text_files.UndecodableError as error:
        raise DataError(f"{path} {error}; {_advice(content, error.encoding)}") from error
    if "\x00" in text:
        raise DataError(f"{path} line {text.count(chr(10), 0, text.index(chr(0))) + 1}: {_null_advice(content)}")
    if "\n" not in text and "\r" in QUOTED.sub("", text).strip("\r"):
        raise DataError(
            f"{path}: its lines end as on old Macs, with a carriage return alone; save it with ordinary line ends: "
            "`tr '\\r' '\\n' < OLD > NEW`"
        )
    return text


def rows(text: str, path: Path) -> tuple[str, Numbered]:
    """The separator and the rows of a CSV, each with the line on which it begins; a blank line is a row without cells.

    A first line `sep=;` decides. Otherwise it is the only sign that gives every row the width of the header; without
    such a sign in the header there is one column.

    Raises:
        DataError: several separators are possible, or a double quote is never closed.
    """
    if declared := DECLARED.match(text):
        return declared["separator"], _parsed(text[declared.end() :], declared["separator"], path, first_line=2)
    separator = _separator(text, path)
    return separator, _parsed(text, separator, path)


def _advice(content: bytes, encoding: str) -> str:
    if encoding != "utf-8":
        return f"its mark says {encoding}, so the file is damaged; save it again as UTF-8"
    if name := _utf_16_without_mark(content):
        return f"this is {name} without a byte order mark; convert it: `iconv -f {name} -t UTF-8`"
    return (
        "save the file as UTF-8 (`iconv -f CP1252 -t UTF-8` for Western, `iconv -f CP949 -t UTF-8` for Korean Windows "
        "files)"
    )


def _null_advice(content: bytes) -> str:
    if name := _utf_16_without_mark(content):
        return f"a NUL byte: this is {name} without a byte order mark; convert it: `iconv -f {name} -t UTF-8`"
    return "a NUL byte, which no text has; export the file again, or remove the bytes: `tr -d '\\000' < OLD > NEW`"


def _utf_16_without_mark(content: bytes) -> str:
    """Its name, or empty: separators, spaces and digits are ASCII, a zero byte and one below 128, in any language."""
    first, second = content[:1000:2], content[1:1000:2]
    little, big = _ascii(second, first), _ascii(first, second)
    if max(little, big) * 12 < len(first) or min(little, big) * 10 > max(little, big) or not content:
        return ""
    return "UTF-16LE" if little > big else "UTF-16BE"


def _ascii(high: bytes, low: bytes) -> int:
    """Number of ASCII characters among those with these bytes."""
    return sum(not above and (below in b"\t\r\n" or 32 <= below < 127) for above, below in zip(high, low, strict=False))


@contextmanager
def _any_length() -> Iterator[None]:
    """Python's reader stops at a cell of 131,072 characters; a long review is a matter of its row alone."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parsed(text: str, separator: str, path: Path, *, first_line: int = 1) -> Numbered:
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    numbered, line = Numbered(), first_line
    try:
        with _any_length():
            for cells in reader:
                numbered.append((line, cells))
                line = reader.line_num + first_line
    except csv.Error as error:
        raise DataError(f"{path} line {line}: {_reason(error)}") from error
    return numbered


def _reason(error: csv.Error) -> str:
    message = str(error)
    if "new-line character" in message:
        return "a carriage return alone, outside of quotes; remove it, or put its cell in double quotes"
    if "unexpected end of data" in message:
        return "a double quote is opened here and never closed; close it, or double it within a quoted cell"
    return f"{message}; is a double quote left open, or not doubled within a quoted cell?"


def _separator(text: str, path: Path) -> str:
    head = _header_line(text)
    possible = [sign for sign in SEPARATORS if sign in head]
    if len(possible) < 2:
        return possible[0] if possible else NO_SEPARATOR
    shares = {sign: _share_as_wide(text, sign, path) for sign in possible}
    fitting = [sign for sign, share in shares.items() if share == 1]
    if len(fitting) > 1:
        names = " or ".join(SEPARATORS[sign] for sign in fitting)
        raise DataError(f"{path}: its columns may be separated by {names}; write `sep={fitting[0]}` as its first line")
    return fitting[0] if fitting else max(shares, key=lambda sign: shares[sign])


def _header_line(text: str) -> str:
    """The first line with content, without what is in quotes."""
    start = QUOTED.sub('""', text[:LONGEST_HEADER])
    return next((line for _, line in text_files.lines(start) if line.strip(" ,;\t|")), "")


def _share_as_wide(text: str, separator: str, path: Path) -> float:
    """Share of the rows that are as wide as the header; 0 for a header of one column or a text that cannot be read."""
    try:
        numbered = _parsed(text, separator, path)
    except DataError:
        return 0.0
    widths = [len(cells) for _, cells in numbered if any(cell.strip() for cell in cells)]
    return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0
