"""The rows of a CSV: which sign separates the columns, and the line on which each row begins."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
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
    **{f"BZh{level}1AY&SY".encode(): "a bzip2 file, to be unpacked with `bunzip2`" for level in range(1, 10)},
    b"\xfd7zXZ\x00": "an xz file, to be unpacked with `unxz`",
    b"\x28\xb5\x2f\xfd": "a Zstandard file, to be unpacked with `unzstd`",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive, to be unpacked with `7z x`",
    b"Rar!\x1a\x07": "a RAR archive, to be unpacked with `unrar x`",
    b"PAR1\x15": "a Parquet file, whose reviews are to be saved as a CSV",
    b"SQLite format 3\x00": "an SQLite database, whose reviews are to be saved as a CSV",
    b"%PDF": "a PDF",
}
QUOTED = re.compile(r'"(?:[^"]|"")*"')
LONGEST_HEADER = 10_000  # characters in which the header is looked for
WINDOWS_END = "\r\n"  # with this line end Python's writer quotes a carriage return alone, too
HEAD = 2**18  # of a large file: bytes or characters in which the separator is looked for
Numbered = list[tuple[int, list[str]]]


def decoded(content: bytes, path: Path) -> str:
    """The text of a file, if its encoding is certain.

    Args:
        content: the file.
        path: its name, for messages.

    Raises:
        DataError: the encoding is not certain, the file is not text, or its lines end as on old Macs.
    """
    _refuse_other_file(content, path)
    try:
        text = text_files.decode(content)
    except text_files.UndecodableError as error:
        raise _undecodable(error, content, path) from error
    if "\x00" in text:
        raise _null(text.count("\n", 0, text.index("\x00")) + 1, content, path)
    _refuse_old_line_ends(text, path)
    return text


def rows(text: str, path: Path) -> tuple[str, Numbered]:
    """The separator and the rows of a CSV, each with the line on which it begins; a blank line is a row without cells.

    A first line `sep=;` decides. Otherwise it is the only sign that gives every row the width of the header; without
    such a sign in the header there is one column.

    Raises:
        DataError: several separators are possible, or a double quote is never closed.
    """
    separator, body, first_line = _beginning(text, path)
    return separator, [*_parsed(io.StringIO(body), separator, path, first_line=first_line)]


def stream(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV of any size, as `rows` of its `decoded` text, but one at a time, with the memory of one row.

    The separator and the line ends are those of its first HEAD bytes.

    Raises:
        DataError: as `decoded` and `rows`; what is wrong with a row, when it is reached.
    """
    with path.open("rb") as file:
        content = file.read(HEAD)
    _refuse_other_file(content, path)
    head = _whole_rows(path)
    _refuse_old_line_ends(head, path)
    separator, _, first_line = _beginning(head, path)
    return _parsed(islice(_lines(path), first_line - 1, None), separator, path, first_line=first_line)


def to_text(cells: Iterable[Iterable[str]], *, separator: str = ",", end: str = "\n") -> str:
    """Rows as CSV that `rows` reads back.

    Args:
        cells: of each row.
        separator: between the cells.
        end: of each line.
    """
    writer = csv.writer(_Line(), delimiter=separator, lineterminator=WINDOWS_END)
    return "".join(writer.writerow(row).removesuffix(WINDOWS_END) + end for row in cells)


class _Line:
    """The file of a csv.writer, whose `writerow` then gives the line."""

    def write(self, line: str) -> str:
        return line


def _beginning(text: str, path: Path) -> tuple[str, str, int]:
    """The separator, what follows the line that declares it, and the number of the line with which that begins."""
    if declared := DECLARED.match(text):
        return declared["separator"], text[declared.end() :], 2
    return _separator(text, path), text, 1


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, refused where they are not text."""
    with path.open("rb") as file:
        content = file.read(HEAD)  # for the advice
    try:
        for number, line in enumerate(text_files.stream_lines(path), start=1):
            if "\x00" in line:
                raise _null(number, content, path)
            yield line
    except text_files.UndecodableError as error:
        raise _undecodable(error, content, path) from error


def _whole_rows(path: Path) -> str:
    """About the first HEAD characters of a file, up to a line break outside of quotes if there is one."""
    complete, head, length, quotes = 0, list[str](), 0, 0
    for line in _lines(path):
        head.append(line)
        length, quotes = length + len(line), quotes + line.count('"')
        complete = len(head) if quotes % 2 == 0 else complete
        if length >= HEAD:
            break
    return "".join(head[: complete or None])


def _refuse_other_file(content: bytes, path: Path) -> None:
    if kind := next((kind for mark, kind in OTHER_FILES.items() if content.startswith(mark)), None):
        raise DataError(f"{path}: this is {kind}; a text file is needed here")


def _refuse_old_line_ends(text: str, path: Path) -> None:
    if "\n" not in text and "\r" in QUOTED.sub("", text).strip("\r"):
        raise DataError(
            f"{path}: its lines end as on old Macs, with a carriage return alone; save it with ordinary line ends: "
            "`tr '\\r' '\\n' < OLD > NEW`"
        )


def _undecodable(error: text_files.UndecodableError, content: bytes, path: Path) -> DataError:
    return DataError(f"{path} {error}; {_advice(content, error.encoding)}")


def _null(line: int, content: bytes, path: Path) -> DataError:
    return DataError(f"{path} line {line}: {_null_advice(content)}")


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


def _parsed(
    lines: Iterable[str], separator: str, path: Path, *, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins. The limit of a cell is back in place whenever a row is handed out."""
    reader, line = csv.reader(lines, delimiter=separator, strict=True), first_line
    while True:
        try:
            with _any_length():
                cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path} line {line}: {_reason(error)}") from error
        if cells is None:
            return
        yield line, cells
        line = reader.line_num + first_line


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
        numbered = [*_parsed(io.StringIO(text), separator, path)]
    except DataError:
        return 0.0
    widths = [len(cells) for _, cells in numbered if any(cell.strip() for cell in cells)]
    return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0
