"""Text files as people have them: marks, UTF-16, line breaks."""

import codecs
from pathlib import Path

import pytest

from reviewtune.core.text_files import UndecodableError, decode, lines, read_lines

TEXT = "한국어, é\nsecond"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_a_mark_tells_the_encoding_and_is_removed(content: bytes) -> None:
    assert decode(content) == TEXT


def test_the_line_of_a_byte_that_is_not_utf8_is_named() -> None:
    with pytest.raises(UndecodableError, match="line 3: byte 0xe9"):
        decode(b"a\nb\ncaf\xe9\n")


def test_only_line_feeds_end_a_line() -> None:
    text = "one\u2028still one\x85\x0b\x0c\r\ntwo\n\nfour"
    assert list(lines(text)) == [(1, "one\u2028still one\x85\x0b\x0c"), (2, "two"), (3, ""), (4, "four")]


def test_lines_of_a_file_have_the_same_numbers_as_lines_of_its_text(tmp_path: Path) -> None:
    content = codecs.BOM_UTF8 + "one\u2028\r\n\r\nthree\rstill three\nfour".encode()
    (tmp_path / "file").write_bytes(content)
    read = [(number, line.decode()) for number, line in read_lines(tmp_path / "file")]
    assert read == list(lines(decode(content)))


def test_a_line_that_is_too_long_is_cut_and_the_next_one_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345678\nnext\n")
    assert list(read_lines(tmp_path / "file", longest=3)) == [(1, b"123"), (2, b"nex")]
