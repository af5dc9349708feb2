"""Read text files as people have them: UTF-8, or UTF-16 or UTF-32 with a byte order mark, any line breaks.

Only a line feed, alone or after a carriage return, ends a line. Unicode has more line separators, but they occur inside
reviews. All readers of a text file use this module, so that they accept the same files and name the same lines.
"""

import codecs
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LONGEST_MARK = max(map(len, MARKS))
BLOCK = 2**16  # bytes that are decoded at a time
JSON_SPACE = " \t\r"  # what JSON allows around a value in a line; a line of other spaces is not blank


class UndecodableError(ValueError):
    """The bytes are not text in an encoding that is certain.

    Args:
        line: where the first such byte is; 1 is the first line.
        byte: its value.
        encoding: what the file should be, such as utf-8.
    """

    def __init__(self, line: int, byte: int, encoding: str = "utf-8") -> None:
        super().__init__(f"line {line}: byte 0x{byte:02x} is not {encoding.upper()}")
        self.line, self.byte, self.encoding = line, byte, encoding


def encoding_of(content: bytes) -> str:
    """The encoding that the byte order mark names; utf-8 without a mark."""
    return next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "utf-8")


def mark_length(content: bytes) -> int:
    """Bytes of the byte order mark at the beginning; 0 without one."""
    return next((len(mark) for mark in MARKS if content.startswith(mark)), 0)


def decode(content: bytes) -> str:
    """The text of a file, without its byte order mark: in the encoding that the mark names, else UTF-8.

    Raises:
        UndecodableError: a byte does not fit the encoding.
    """
    encoding, body = encoding_of(content), content[mark_length(content) :]
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(encoding, "replace")
        raise UndecodableError(before.count("\n") + 1, body[error.start], encoding) from error


def stream_lines(path: Path) -> Iterator[str]:
    """The lines of a text file of any size, with their line feeds, without its byte order mark; decoded as `decode`.

    Raises:
        UndecodableError: a byte does not fit the encoding; its line has been reached.
    """
    with path.open("rb") as file:
        start = file.read(LONGEST_MARK)
        mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
        file.seek(len(mark))
        yield from _decoded_lines(file, MARKS.get(mark, "utf-8"))


def _decoded_lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    decoder, rest, number = codecs.getincrementaldecoder(encoding)(), "", 1
    while True:
        block = file.read(BLOCK)
        try:
            *whole, rest = (rest + decoder.decode(block, final=not block)).split("\n")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, "replace")
            raise UndecodableError(number + before.count("\n"), error.object[error.start], encoding) from error
        yield from (f"{line}\n" for line in whole)
        number += len(whole)
        if not block:
            yield from [rest] if rest else []
            return


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers, the first is 1; without line breaks, with empty lines."""
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def read_lines(path: Path, *, longest: int = -1) -> Iterator[tuple[int, bytes]]:
    """The lines of a UTF-8 file as bytes with their numbers; a file of any size needs the memory of one line.

    The byte order mark and line breaks are removed, empty lines are kept; nothing is decoded.

    Args:
        path: the file.
        longest: bytes after which a line is cut off; -1: never.
    """
    with path.open("rb") as file:
        for number in count(1):
            line = rest = file.readline(longest)
            if not line:
                return
            while len(rest) == longest and not rest.endswith(b"\n"):
                rest = file.readline(longest)
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            yield number, content.removesuffix(b"\n").removesuffix(b"\r")
