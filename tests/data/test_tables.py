"""One reader for the tables of users: what can be told for certain is read, everything else gets the right advice."""

import bz2
import codecs
import csv
import io
import lzma
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from reviewtune.core.normalisation import normalise
from reviewtune.data import delimited_text
from reviewtune.data.spreadsheets import to_xlsx
from reviewtune.data.tables import Table, read_table, stream_csv, to_bytes
from reviewtune.errors import DataError

ROWS = [("Comment", "Topic"), ("Late, again; really", "late"), ('The "new" cup\nbroke', "broken")]


def stored(tmp_path: Path, content: bytes, name: str = "own.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read(tmp_path: Path, content: bytes | str, name: str = "own.csv") -> Table:
    return read_table(stored(tmp_path, content.encode() if isinstance(content, str) else content, name))


def refusal(tmp_path: Path, content: bytes | str) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition("own.csv")[2]


def csv_text(separator: str = ",", end: str = "\n") -> str:
    target = io.StringIO()
    csv.writer(target, delimiter=separator, lineterminator=end).writerows(ROWS)
    return target.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_in_any_usual_form(tmp_path: Path, separator: str, encoding: str, end: str) -> None:
    table = read(tmp_path, csv_text(separator, end).encode(encoding))
    assert table.columns == ROWS[0]
    assert [(row.line, *row.cells.values()) for row in table.rows] == [(2, *ROWS[1]), (3, *ROWS[2])]
    assert not table.faults


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;"])
def test_excels_first_line_names_the_separator(tmp_path: Path, first: str) -> None:
    table = read(tmp_path, f"{first}\r\na, b;c\r\nx, y;z\r\n")
    assert table.columns == ("a, b", "c")
    assert table.rows[0] == (3, {"a, b": "x, y", "c": "z"})


def test_a_header_without_a_separator_is_one_column(tmp_path: Path) -> None:
    """A plain list of reviews is a table; commas belong to the reviews."""
    table = read(tmp_path, 'text\nlate, again,\n"broken, too"\n,\n')
    assert [row.cells["text"] for row in table.rows] == ["late, again,", "broken, too", ","]


def test_a_separator_in_doubt_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a,b;c\n1,2;3\n4,5;6\n")
    assert message == ": its columns may be separated by comma or semicolon; write `sep=,` as its first line"
    assert read(tmp_path, "a (b, c);d\n1;3\n4, 5;6\n").columns == ("a (b, c)", "d")  # only one fits every row


def test_empty_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    table = read(tmp_path, "\n;\na;b\n1;2\n\n ; \u200b\n3;4\n;\n")
    assert [row.line for row in table.rows] == [4, 7]
    assert table.empty_rows == 5
    assert table.skipped.endswith("own.csv: 5 empty rows skipped")


def test_empty_columns_of_excel_are_left_out(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b,,\n1,2,,\n3,4\n")
    assert [row.cells for row in table.rows] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert "column 3 has no name in the header" in refusal(tmp_path, "a,b,,\n1,2,x,\n")


def test_a_long_cell_concerns_its_row_alone(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    table = read(tmp_path, f"a,b\n{'x' * 140_000},1\ny,2\n")
    assert [len(row.cells["a"]) for row in table.rows] == [140_000, 1]
    assert csv.field_size_limit() == limit


def test_headers_are_normalised_and_cells_are_as_they_are(tmp_path: Path) -> None:
    table = read(tmp_path, "\u1112\u1161\u11ab,Topic\u200b\n\u1112\u1161\u11ab, late \n")
    assert table.columns == ("\ud55c", "Topic")
    assert list(table.rows[0].cells.values()) == ["\u1112\u1161\u11ab", " late "]


def test_rows_of_another_width_are_faults(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n1,2,3\n4,5,\n6\n")
    assert [row.line for row in table.rows] == [3]
    assert [str(fault).partition(",")[0] for fault in table.faults] == ["line 2: 3 cells", "line 4: 1 cell"]


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"a,b\n1,caf\xe9\n", " line 2: byte 0xe9 is not UTF-8; save the file as UTF-8 (`iconv -f CP1252"),
        ("a,b\n1,2\n".encode("utf-16-le"), " line 1: a NUL byte: this is UTF-16LE without a byte order mark; convert"),
        ("a,b\n1,2\n".encode("utf-16-be"), " line 1: a NUL byte: this is UTF-16BE"),
        (
            "리뷰,분류\n배송 지연,b\n".encode("utf-16-le"),
            " line 1: byte 0xac is not UTF-8; this is UTF-16LE without a byte",
        ),
        (
            "\u1105\u1175,\u1107\u116e\n\u1100\u1161 \u1105\u1175\uac00,b\n".encode("utf-16-le"),
            " line 2: byte 0xac is not UTF-8; this is UTF-16LE",
        ),
        (b"a,b\n1,x\x00y\nlong enough to be sure, yes\n", " line 2: a NUL byte, which no text has"),
        (codecs.BOM_UTF16_LE + b"a\x00,", " line 1: byte 0x2c is not UTF-16-LE; its mark says utf-16-le, so the file"),
        (b"a,b\r1,2\r", ": its lines end as on old Macs"),
        (b"a,b\n1\rx,2\n", " line 2: a carriage return alone, outside of quotes"),
        (b'a,b\n1,2\n"3,4\n5,6\n', " line 3: a double quote is opened here and never closed"),
        (b'a,b\n"1"2,3\n', " line 2: ',' expected after"),
        (b'{"messages": []}\n', ": this is JSON, not a table"),
        (b"<html><table>", ": this is HTML or XML, not a table; save it as .xlsx"),
        (b"a,a\n1,2\n", ": the header has column 'a' 2 times; rename one"),
        (b"a,b\n,\n", ": no reviews below the header"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest",
            ": an old Excel file (.xls), or one with a password; save it as .xlsx",
        ),
        (b"\x1f\x8b\x08rest\xe9", ": this is a gzip file, to be unpacked with `gunzip`; a text file is needed here"),
        (bz2.compress(b"a,b\n1,2\n"), ": this is a bzip2 file, to be unpacked with `bunzip2`; a text file"),
        (lzma.compress(b"a,b\n1,2\n"), ": this is an xz file, to be unpacked with `unxz`; a text file"),
        (b"\x28\xb5\x2f\xfd\x04rest", ": this is a Zstandard file, to be unpacked with `unzstd`; a text file"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04rest", ": this is a 7z archive, to be unpacked with `7z x`; a text file"),
        (b"Rar!\x1a\x07\x01\x00rest", ": this is a RAR archive, to be unpacked with `unrar x`; a text file"),
        (b"PAR1\x15\x04\x15rest", ": this is a Parquet file, whose reviews are to be saved as a CSV; a text file"),
        (b"SQLite format 3\x00\x10rest", ": this is an SQLite database, whose reviews are to be saved as a CSV"),
        (b"PK\x03\x04rest", ": a damaged .xlsx or .zip file"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_right_advice(tmp_path: Path, content: bytes, advice: str) -> None:
    message = refusal(tmp_path, content)
    assert message.startswith(advice)
    assert ("CP1252" in message) == ("CP1252" in advice)


def archive(**files: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name.replace("__", "/"), text)
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (archive(mimetype="application/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument file (.ods)"),
        (archive(**{"xl/workbook.bin": ""}), "a binary Excel file (.xlsb)"),
        (archive(**{"own.csv": "a,b"}), "an archive of 1 file; unpack it first"),
        (archive(**{"xl/workbook.xml": "no"}), "the workbook cannot be read"),
    ],
)
def test_other_archives_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    assert kind in refusal(tmp_path, content)


def workbook(*sheets: list[list[object]], hidden: int = 0) -> bytes:
    book = Workbook()
    book.remove(book.worksheets[0])
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    for sheet in book.worksheets[len(sheets) - hidden :]:
        sheet.sheet_state = "hidden"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def test_an_excel_file_as_people_have_it(tmp_path: Path) -> None:
    """A lookup sheet is hidden, a row is empty, numbers have no noise, and the name does not matter."""
    rows: list[list[object]] = [["text", "label", "stars", None], ["late", "a", 4.1 + 0.2], [], ["broken", True, 7]]
    table = read(tmp_path, workbook(rows, [], [["lists"], ["a"]], hidden=1), "own.csv")
    assert [(row.line, *row.cells.values()) for row in table.rows] == [
        (2, "late", "a", "4.3"),
        (4, "broken", "TRUE", "7"),
    ]
    assert (table.kind, table.empty_rows) == ("xlsx", 1)


def test_several_sheets_with_content_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, workbook([["a"], ["1"]], [["b"], ["2"]]))
    assert "2 sheets have content (Sheet, Sheet1); hide or remove all but the one with the reviews" in message


def test_no_review_becomes_a_formula(tmp_path: Path) -> None:
    table = read(tmp_path, to_xlsx(["text"], [["=1+1"], ["\x07bell"]]), "own.xlsx")
    assert [row.cells["text"] for row in table.rows] == ["=1+1", "\ufffdbell"]


cell = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn")) | st.sampled_from('\n,;|\t"\u200b\u1112\u1161'), max_size=9
)
rows_of_cells = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(
    rows=rows_of_cells,
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    empty=st.lists(st.integers(0, 6), max_size=3),
    excel=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_is_read_as_it_was_written(
    rows: list[list[str]], separator: str, encoding: str, end: str, empty: list[int], excel: bool, tmp_path: Path
) -> None:
    """In any form: the same normalised cells, and the line on which each row begins."""
    assume(all(any(map(normalise, cells)) for cells in rows))
    header = [f"column {place}" for place in range(len(rows[0]))]
    written = [header, *rows]
    for place in sorted(empty):
        written.insert(min(place, len(written)), [""] * len(header))
    if excel:
        content, lines = to_xlsx(written[0], written[1:]), list(range(1, len(written) + 1))
    else:
        content, lines = _as_csv(written, separator, encoding, end)
    table = read_table(stored(tmp_path, content))
    filled = [(line, cells) for line, cells in zip(lines, written, strict=True) if any(map(normalise, cells))]
    assert table.columns == tuple(header)
    assert [(row.line, list(map(normalise, row.cells.values()))) for row in table.rows] == [
        (line, list(map(normalise, cells))) for line, cells in filled[1:]
    ]
    if not excel:
        columns, streamed = stream_csv(tmp_path / "own.csv")
        assert (tuple(columns), tuple(streamed)) == (table.columns, table.rows)


def _as_csv(rows: list[list[str]], separator: str, encoding: str, end: str) -> tuple[bytes, list[int]]:
    target, lines = io.StringIO(), list[int]()
    writer = csv.writer(target, delimiter=separator, lineterminator=end)
    for row in rows:
        lines.append(target.getvalue().count("\n") + 1)
        writer.writerow(row)
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16" else b""
    return mark + target.getvalue().encode("utf-16-le" if mark else encoding), lines


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"\nc', "issue": ""}, {"text": "\ud55c", "issue": "late"}]
    for name in ("out.csv", "out.xlsx"):
        table = read(tmp_path, to_bytes(["text", "issue"], rows, Path(name)), name)
        assert [row.cells for row in table.rows] == rows
    assert re.match(rb'text,issue\n"a, ""b""\nc",\n', to_bytes(["text", "issue"], rows, Path("out.csv")))


def test_a_carriage_return_alone_stays_within_its_cell(tmp_path: Path) -> None:
    """As Excel for the Mac leaves them in reviews."""
    rows = [{"text": "late\rand wet", "label": "late"}]
    content = to_bytes(["text", "label"], rows, Path("out.csv"))
    assert [row.cells for row in read(tmp_path, content).rows] == rows
    assert content == b'text,label\n"late\rand wet",late\n'


LIKE_ALL = (
    csv_text(";", "\r\n").encode("utf-16"),
    '\ufeff"text";label\na;b\n'.encode("utf-16-le"),
    b"\xef\xbb\xbfsep=;\r\na, b;c\r\nx, y;z\r\n",
    b"text\nlate, again,\n",
    b"\n;\na;b\n1;2\n\n ; \xe2\x80\x8b\n3;4\n;\n",
    b"a,b,,\n1,2,,\n3,4\n",
    b"a,b\n" + b"x" * 140_000 + b",1\ny,2\n",
    "\u1112\u1161\u11ab,Topic\u200b\n\u1112\u1161\u11ab, late \n".encode(),
)
REFUSED = (
    b"a,b\n1,2,3\n",
    b"a,b,,\n1,2,x,\n",
    b"a,b;c\n1,2;3\n4,5;6\n",
    b"a,a\n1,2\n",
    b'a,b\n1,2\n"3,4\n5,6\n',
    b"a,b\n1\rx,2\n",
    b"a,b\n1,x\x00y\nlong enough to be sure, yes\n",
    b'{"messages": []}\n',
    b"%PDF-1.7",
)


@pytest.mark.parametrize("content", LIKE_ALL)
@pytest.mark.parametrize("head", [delimited_text.HEAD, 64])
def test_a_large_csv_is_read_by_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, head: int
) -> None:
    """Row by row, with the separator of its beginning."""
    monkeypatch.setattr(delimited_text, "HEAD", head)
    path = stored(tmp_path, content)
    whole, (columns, rows) = read_table(path), stream_csv(path)
    assert (tuple(columns), tuple(rows)) == (whole.columns, whole.rows)
    assert csv.field_size_limit() < 140_000


@pytest.mark.parametrize("content", REFUSED)
def test_a_large_csv_is_refused_with_the_same_words(tmp_path: Path, content: bytes) -> None:
    path, refusals = stored(tmp_path, content), list[str]()
    for rows in (lambda: read_table(path).refuse_faults(), lambda: list(stream_csv(path)[1])):
        with pytest.raises(DataError) as caught:
            rows()
        refusals.append(str(caught.value))
    assert refusals[0] == refusals[1]


def test_a_large_csv_in_another_encoding_gets_the_advice(tmp_path: Path) -> None:
    path = stored(tmp_path, b"a,b\n1,caf\xe9\n")
    with pytest.raises(DataError, match=r"byte 0xe9 is not UTF-8; save the file as UTF-8 \(`iconv -f CP1252"):
        list(stream_csv(path)[1])
