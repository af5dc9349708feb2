"""data/frozen_splits.csv: the side of every review that was ever frozen, by the review's hash; one row per review.

The rows are sorted, and their order means nothing, so git can merge two versions line by line. Reviews of several data
sets are in one file: a hash belongs to a text, not to a data set.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from reviewtune.core.atomic_files import write_text
from reviewtune.core.normalisation import normalise
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.data.sides.review_key import KEY
from reviewtune.data.sides.side_names import SIDES, Side
from reviewtune.data.tables import Row, Table, read_bytes, read_table
from reviewtune.errors import DataError

SIDE = "side"
HEADER = f"{KEY},{SIDE}"
HASH = re.compile(r"[0-9a-f]{64}")
CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})(?: |\r?$)", re.MULTILINE)
ONE_SIDE = (
    "remove one of the two rows, and keep `test` if in doubt; to keep the sides of one branch: "
    "`git checkout BRANCH -- data/frozen_splits.csv`"
)
ANOTHER_METHOD = re.compile(r"review_sha256_v\d+")


def read_frozen(path: Path) -> dict[str, Side]:
    """The frozen sides by the hash of the review.

    Raises:
        DataError: there is no such file, it cannot be read, git left a conflict in it, or a row is not a hash and a
            side.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such file, without which all reviews would be split anew; restore it with `git checkout` "
            f"(if nothing was ever frozen, write a file with this one line: {HEADER})"
        )
    _refuse_conflict(path)
    table = read_table(path, may_be_empty=True)
    _refuse_another_method(table)
    table.require([KEY, SIDE], hint=f"its first line is {HEADER}; `git checkout` restores the file")
    refuse_faults(path, sorted([*table.faults, *_row_faults(table.rows)], key=lambda fault: fault.line))
    sides = {_hash(row): cast("Side", _side(row)) for row in table.rows}
    refuse_faults(path, _contradictions(table.rows, sides), advice=ONE_SIDE)
    return sides


def write_frozen(sides: Mapping[str, Side], path: Path) -> None:
    """Write the file, its rows sorted by hash."""
    rows = [f"{key},{side}" for key, side in sorted(sides.items())]
    write_text("\n".join([HEADER, *rows]) + "\n", path)


def _refuse_conflict(path: Path) -> None:
    content = read_bytes(path)
    if mark := CONFLICT.search(content):
        line = content.count(b"\n", 0, mark.start()) + 1
        raise DataError(
            f"{path} line {line}: git left a merge conflict; remove the lines that begin with <<<<<<<, ======= or "
            ">>>>>>> and keep all others, since each row is a review of its own; then `git add` the file"
        )


def _refuse_another_method(table: Table) -> None:
    others = [name for name in table.columns if ANOTHER_METHOD.fullmatch(name) and name != KEY]
    if others and KEY not in table.columns:
        raise DataError(f"{table.path}: its hashes are {others[0]}, this release reads {KEY}; upgrade reviewtune")


def _row_faults(rows: Iterable[Row]) -> list[Fault]:
    return [Fault(row.line, message, value) for row in rows for message, value in _faults_of(row)]


def _faults_of(row: Row) -> Iterable[tuple[str, str]]:
    if not HASH.fullmatch(_hash(row)):
        yield f"'{_hash(row)[:70]}' is not the hash of a review, which has 64 hex digits; remove the row", ""
    elif _side(row) not in SIDES:
        near = difflib.get_close_matches(_side(row), SIDES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        yield f"side '{_side(row)}' is not one of {', '.join(SIDES)}{hint}", ""


def _contradictions(rows: Iterable[Row], sides: Mapping[str, Side]) -> list[Fault]:
    """Rows whose review is on another side in a later row."""
    return [
        Fault(row.line, f"review {_hash(row)[:12]}... is {_side(row)} here and {sides[_hash(row)]} in a later row")
        for row in rows
        if _side(row) != sides[_hash(row)]
    ]


def _hash(row: Row) -> str:
    return normalise(row.cells[KEY]).lower()


def _side(row: Row) -> str:
    return normalise(row.cells[SIDE]).lower()
