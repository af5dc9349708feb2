"""Faults of a file: the line that cannot be used, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewtune.core.formatting import counted
from reviewtune.errors import DataError

SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """A line of a file that cannot be used.

    Args:
        line: its number in the file; 1 is the first.
        message: what is wrong with it, what is allowed, and what to do.
    """

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def refuse_faults(path: Path, faults: Sequence[Fault]) -> None:
    """Refuse a file that has faults.

    Raises:
        DataError: with the first fault, and the lines of some others.
    """
    if not faults:
        return
    first, *others = faults
    lines = ", ".join(str(fault.line) for fault in others[:SHOWN])
    more = (
        f" ({counted(len(others), 'more such row')}: line {lines}{', ...' if len(others) > SHOWN else ''})"
        if others
        else ""
    )
    raise DataError(f"{path} {first}{more}")
