"""Read text files as people have them: UTF-8, or UTF-16 or UTF-32 with a byte order mark, any line breaks.

Only a line feed, alone or after a carriage return, ends a line. Unicode has more line separators, but they occur inside
reviews. All readers of a text file use this module, so that they accept the same files and name the same lines.
"""

import codecs
from collections.abc import Iterator
from itertools import count
from pathlib import Path

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
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


def decode(content: bytes) -> str:
    """The text of a file, without its byte order mark: in the encoding that the mark names, else UTF-8.

    Raises:
        UndecodableError: a byte does not fit the encoding.
    """
    mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
    encoding, body = MARKS.get(mark, "utf-8"), content[len(mark) :]
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(encoding, "replace")
        raise UndecodableError(before.count("\n") + 1, body[error.start], encoding) from error


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
