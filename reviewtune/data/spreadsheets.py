"""Excel files: the rows of an .xlsx, an .xlsx of rows, and what other spreadsheet files are called."""

import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reviewtune.core.formatting import counted
from reviewtune.errors import DataError

if TYPE_CHECKING:
    from openpyxl import Workbook

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
LONGEST_CELL = 32_767  # Excel's limit; openpyxl would cut longer texts in silence
SAVE_AS = "save it as .xlsx, or as CSV UTF-8, with the program that wrote it"
ESCAPED_SPACE = re.compile(r"_x000[9aAdD]_")  # how Excel writes tabs and line breaks
UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # not allowed in XML


def is_spreadsheet(content: bytes) -> bool:
    """Whether the bytes are a spreadsheet of any kind, or another archive."""
    return content.startswith((ZIP, OLE))


def sheet_rows(content: bytes, path: Path) -> list[tuple[int, list[str]]]:
    """The rows of the only visible sheet with content, with their numbers; 1 is the first.

    Numbers are written as Excel shows them without a format, dates as 2026-11-29, and an error such as #N/A is empty.

    Args:
        content: the file.
        path: its name, for messages.

    Raises:
        DataError: it is not an .xlsx, cannot be read, or has several sheets with content.
    """
    _refuse_other_kinds(content, path)
    sheets = _filled_sheets(content, path)
    if len(sheets) > 1:
        raise DataError(
            f"{path}: {len(sheets)} sheets have content ({', '.join(sheets)}); hide or remove all but the one with the "
            "reviews, or save that one as CSV UTF-8"
        )
    rows = next(iter(sheets.values()), [])
    while rows and not any(rows[-1][1]):  # formatted, but never filled
        rows.pop()
    return rows


def to_xlsx(
    columns: Sequence[str], rows: Iterable[Sequence[str]], choices: Mapping[str, Sequence[str]] | None = None
) -> bytes:
    """An .xlsx with a header. Every cell is text, so that no program runs a review as a formula.

    Args:
        columns: the header.
        rows: the cells.
        choices: values of a column, which its cells offer as a list; they are kept in a hidden sheet.

    Raises:
        DataError: a cell is too long for Excel.
    """
    from openpyxl import Workbook

    cells = [columns, *rows]
    refuse_long_cells(enumerate(cells, start=1), Path("the .xlsx"))
    book = Workbook(write_only=True)
    sheet = book.create_sheet("reviews")
    for row in cells:
        sheet.append([_text_cell(sheet, text) for text in row])
    for name, values in (choices or {}).items():
        _offer(book, sheet, columns.index(name) + 1, len(cells), values)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def refuse_long_cells(rows: Iterable[tuple[int, Iterable[str]]], path: Path) -> None:
    """Refuse, before any work, rows that an .xlsx cannot hold.

    Args:
        rows: each row's line, and its cells.
        path: the file to write.

    Raises:
        DataError: a cell is too long for Excel.
    """
    for line, cells in rows:
        if (longest := max(map(len, cells), default=0)) > LONGEST_CELL:
            raise DataError(
                f"{path}: line {line} has a cell of {longest} characters, an .xlsx holds at most {LONGEST_CELL}; "
                "write a .csv instead"
            )


def _text_cell(sheet: Any, text: str) -> Any:  # noqa: ANN401 - the library has no types
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, UNWRITABLE.sub("\ufffd", text))
    cell.data_type = "s"
    return cell


def _offer(book: "Workbook", sheet: Any, column: int, last_row: int, values: Sequence[str]) -> None:  # noqa: ANN401
    """Offer these values in a column. They lie in a hidden sheet, since a list in the cell holds 255 characters."""
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    hidden = book.create_sheet(f"choices {column}")
    hidden.sheet_state = "hidden"
    for value in values:
        hidden.append([_text_cell(hidden, value)])
    offered = DataValidation(type="list", formula1=f"'{hidden.title}'!$A$1:$A${len(values)}", allow_blank=True)
    offered.showErrorMessage = True
    letter = get_column_letter(column)
    offered.add(f"{letter}2:{letter}{max(last_row, 2)}")
    sheet.data_validations.append(offered)


def _refuse_other_kinds(content: bytes, path: Path) -> None:
    if content.startswith(OLE):
        raise DataError(f"{path}: an old Excel file (.xls), or one with a password; {SAVE_AS}, without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype").decode("ascii", "replace") if "mimetype" in names else ""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: a damaged .xlsx or .zip file ({error}); save or copy it again") from error
    if "opendocument" in kind:
        raise DataError(f"{path}: an OpenDocument file (.ods); {SAVE_AS}")
    if "xl/workbook.bin" in names:
        raise DataError(f"{path}: a binary Excel file (.xlsb); {SAVE_AS}")
    if not any(name.startswith("xl/") for name in names):
        raise DataError(f"{path}: an archive of {counted(len(names), 'file')}; unpack it first")


def _filled_sheets(content: bytes, path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """Rows of each visible sheet that has any."""
    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validations, which are not read
            book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheets = {sheet.title: list(_rows(sheet)) for sheet in _visible(book)}
    except Exception as error:  # a damaged workbook fails in many ways
        raise DataError(f"{path}: the workbook cannot be read ({error}); {SAVE_AS}") from error
    return {title: rows for title, rows in sheets.items() if any(any(cells) for _, cells in rows)}


def _visible(book: "Workbook") -> list[Any]:
    return [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]


def _rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401
    sheet.reset_dimensions()  # some programs write a wrong one
    for number, row in enumerate(sheet.iter_rows(), start=1):
        yield number, [_text(cell.value, is_error=cell.data_type == "e") for cell in row]


def _text(value: object, *, is_error: bool) -> str:
    if value is None or is_error:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return format(value, ".15g")  # Excel's own precision
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="seconds")
    return ESCAPED_SPACE.sub(" ", str(value))
