"""The three readers of chat JSONL accept the same files, and name the same line of the others."""

import json
import re
from pathlib import Path

import pytest

from reviewtune.data.chat import chat_files
from reviewtune.data_check import labelled_file
from reviewtune.errors import DataError
from reviewtune.local_server.fine_tuning import file_validation

ROLES = ("system", "user", "assistant")
LINES = [
    json.dumps({"messages": [{"role": role, "content": f"{role} {n % 2}"} for role in ROLES]}).encode()
    for n in range(12)
]
REFUSED = "the file"  # without a line
LONG = 17_000_000  # characters; the local provider reads 16 MiB


def example(text: str) -> bytes:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "a"}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode()


def with_third(*lines: bytes, ending: bytes = b"\n") -> bytes:
    """Twelve examples, and these lines before the third."""
    return b"".join(line + ending for line in [*LINES[:2], *lines, *LINES[2:]])


FILES: dict[str, tuple[bytes, object]] = {
    "plain": (with_third(), None),
    "no line end at the end": (b"\n".join(LINES), None),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + with_third(), None),
    "UTF-16": (with_third().decode().encode("utf-16"), None),
    "CRLF": (with_third(ending=b"\r\n"), None),
    "CRLF and a fault": (with_third(b"{", ending=b"\r\n"), 3),
    "blank lines": (b"\n\r\n" + with_third(b"", b" \t", b"\r"), None),
    "blank lines and a fault": (b"\n\r\n" + with_third(b"", b" \t", b"{"), 7),
    "a line of no-break space": (with_third("\u00a0".encode()), 3),
    "a line of ideographic space": (with_third("\u3000".encode()), 3),
    "a line of U+2028": (with_third("\u2028".encode()), 3),
    "form feed between lines": (with_third(b"\x0c"), 3),
    "form feed before an example": (with_third(b"\x0c" + LINES[0]), 3),
    "vertical tab after an example": (with_third(LINES[0] + b"\x0b"), 3),
    "U+2028 in a review": (with_third(example("one\u2028two\u0085three\u2029")), None),
    "U+2028 and a fault": (with_third(example("one\u2028two\u0085three"), b"{"), 4),
    "U+2028 between examples": (with_third(LINES[0] + "\u2028".encode() + LINES[1]), 3),
    "carriage return between examples": (with_third(LINES[0] + b"\r" + LINES[1]), 3),
    "carriage returns after an example": (with_third(LINES[0] + b"\r\r\r"), None),
    "carriage return as the only line end": (with_third(ending=b"\r"), REFUSED),
    "NUL in a review": (with_third(LINES[0].replace(b"user 0", b"us\x00er")), 3),
    "NUL as a line": (with_third(b"\x00"), 3),
    "escaped NUL in a review": (with_third(LINES[0].replace(b"user 0", b"us\\u0000er")), None),
    "a mark in the middle, as of joined files": (with_third(b"\xef\xbb\xbf" + LINES[0]), 3),
    "a byte that is not UTF-8": (with_third(LINES[0].replace(b"user 0", b"\xe9t\xe9")), 3),
    "half of a pair": (with_third(LINES[0].replace(b"user 0", b"\\ud83d")), 3),
    "a very long line": (with_third(example("late " * (LONG // 5))), 3),
    "a very long blank line": (with_third(b" " * LONG), None),
    "many brackets": (with_third(b"[" * 100_000), 3),
    "several faults": (with_third(b"{", b"]"), 3),
    "a list": (with_third(b"[]"), 3),
    "a tool's message": (with_third(example("x").replace(b'"user"', b'"tool"')), 3),
    "a weight of 2": (with_third(example("x").replace(b'"a"', b'"a", "weight": 2')), 3),
    "a weight as text": (with_third(example("x").replace(b'"a"', b'"a", "weight": "0"')), 3),
    "a weight of 1": (with_third(example("x").replace(b'"a"', b'"a", "weight": 1')), None),
    "an answer that nobody sees": (with_third(example("x").replace(b'"a"', b'"\\u200b\\u3164"')), 3),
    "nothing": (b"", REFUSED),
    "blank lines only": (b"\n \n\r\n", REFUSED),
}


def of_check(path: Path) -> object:
    try:
        chat_files.check(path, None)
    except DataError as error:
        return line_in(str(error))
    return None


def of_data_check(path: Path) -> object:
    try:
        faults = labelled_file.read(path, None).faults
    except DataError as error:
        return line_in(str(error))
    return faults[0].line if faults else None


def of_local_provider(path: Path) -> object:
    """The file is uploaded as `jobs create` does it."""
    try:
        uploaded = chat_files.as_utf8(path, path.parent / "copies")
    except DataError as error:
        return line_in(str(error))
    fault = file_validation.check(uploaded, None)
    return line_in(fault.message) if fault else None


def line_in(message: str) -> object:
    number = re.search(r"\bline (\d+)", message)
    return int(number[1]) if number else REFUSED


@pytest.mark.parametrize("name", FILES)
def test_all_readers_of_chat_files_agree(name: str, tmp_path: Path) -> None:
    content, expected = FILES[name]
    path = tmp_path / "training.jsonl"
    path.write_bytes(content)
    assert [read(path) for read in (of_check, of_data_check, of_local_provider)] == [expected] * 3
