"""What is written: parts with one row for each row of the files, as Parquet or CSV."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from reviewtune.analyzer.classifier import Outcome
from reviewtune.bulk.blocks import Block
from reviewtune.bulk.sources import SourceRow
from reviewtune.core.atomic_files import write_bytes
from reviewtune.data.tables import to_bytes
from reviewtune.errors import REMEDIES, DataError, ProviderError

Format = Literal["parquet", "csv"]
FILE, NUMBER, LABEL, ERROR = "file", "line", "label", "error"
DIGITS = 4  # of a confidence
OWN: Mapping[str, type] = {
    FILE: str,
    NUMBER: int,
    LABEL: str,
    "confidence": float,
    "sure": bool,
    "model": str,
    "version": str,
    ERROR: str,
}
"""Columns that every part has, with the types of their values."""


class Failure(NamedTuple):
    """A row without a label."""

    file: str
    number: int
    why: str


class Part(NamedTuple):
    """A part in memory.

    Args:
        content: of its file.
        rows: how many it has.
        labels: how many rows have each label.
        failures: the rows without one.
        unanswered: how many of these got no answer this time; the next command asks about them.
    """

    content: bytes
    rows: int
    labels: dict[str, int]
    failures: tuple[Failure, ...]
    unanswered: int


def name_of(number: int, kind: Format) -> str:
    """`part-00000.parquet`."""
    return f"part-{number:05d}.{kind}"


def number_of(name: str) -> int:
    """0 for `part-00000.parquet`."""
    return int(Path(name).stem.removeprefix("part-"))


def columns_with(keep: Sequence[str]) -> dict[str, type]:
    """The columns of a part, with the types of their values.

    Raises:
        DataError: a column that is copied has the name of another one.
    """
    for name in keep:
        if name in OWN or keep.count(name) > 1:
            what = f"the parts have a column '{name}' already" if name in OWN else f"'{name}' is named twice"
            raise DataError(f"--keep {name}: {what}; leave it out, or rename the column")
    own = list(OWN.items())
    return dict([*own[:2], *((name, str) for name in keep), *own[2:]])


def make_part(
    block: Block, outcomes: Sequence[Outcome | None], names: Sequence[str], keep: Sequence[str], kind: Format
) -> Part:
    """The part of a block.

    Args:
        block: the rows.
        outcomes: of each row; None: it could not be read.
        names: of the files.
        keep: columns whose values are copied.
        kind: the format.
    """
    cells, labels, failures = list[list[object]](), Counter[str](), list[Failure]()
    for (index, row), outcome in zip(block.rows, outcomes, strict=True):
        values = _values(row, outcome)
        name = names[index]
        cells.append([name, row.number, *row.kept, *values])
        label, *_, why = values
        if label is None:
            failures.append(Failure(name, row.number, str(why)))
        else:
            labels[str(label)] += 1
    unanswered = sum(isinstance(outcome, ProviderError) for outcome in outcomes)
    content = _content(columns_with(keep), cells, kind)
    return Part(content, len(cells), dict(sorted(labels.items())), tuple(failures), unanswered)


def write_part(content: bytes, path: Path) -> None:
    """Write the file completely or not at all.

    Raises:
        DataError: the disk is full, or the file may not be written.
    """
    try:
        write_bytes(content, path)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "fix that")
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): {remedy}, then run the same command again; the "
            "finished parts are kept"
        ) from error


def _values(row: SourceRow, outcome: Outcome | None) -> list[object]:
    """Label, confidence, sure, model, version, error."""
    if outcome is None or isinstance(outcome, ProviderError):
        return [None, None, False, None, None, row.fault or str(outcome)]
    confidence = None if outcome.confidence is None else round(outcome.confidence, DIGITS)
    return [outcome.label, confidence, outcome.sure, outcome.model, outcome.version, outcome.why]


def _content(columns: Mapping[str, type], cells: Sequence[Sequence[object]], kind: Format) -> bytes:
    if kind == "parquet":
        from reviewtune.bulk.parquet_files import to_bytes as to_parquet

        return to_parquet(columns, cells)
    rows = (dict(zip(columns, map(_text, row), strict=True)) for row in cells)
    return to_bytes(list(columns), rows, Path(name_of(0, kind)))


def _text(value: object) -> str:
    """As `classify` writes it into a CSV."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    return "" if value is None else str(value)
