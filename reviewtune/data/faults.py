"""Faults of a file: the line that cannot be used, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewtune.errors import DataError

SHOWN = 5
ROWS = 10
WIDTH = 40  # of a value in the table of faults


@dataclass(frozen=True)
class Fault:
    """A line of a file that cannot be used.

    Args:
        line: its number in the file; 1 is the first.
        message: what is wrong with it, what is allowed, and what to do.
        value: the cell or text with the fault; empty if the message names it or there is none.
    """

    line: int
    message: str
    value: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def refuse_faults(path: Path, faults: Sequence[Fault], *, advice: str = "") -> None:
    """Refuse a file that has faults.

    Args:
        path: the file.
        faults: what is wrong with it.
        advice: what to do; ends the message.

    Raises:
        DataError: with the first fault, and the lines of some others; its details are a table of the first ten.
    """
    if not faults:
        return
    first, *others = faults
    lines = ", ".join(str(fault.line) for fault in others[:SHOWN])
    more = (
        f" ({len(others)} more such row{'s' * (len(others) > 1)}: line {lines}{', ...' if len(others) > SHOWN else ''})"
        if others
        else ""
    )
    ending = f"; {advice}" if advice else ""
    raise DataError(f"{path} {first}{ending}{more}", details=fault_table(faults))


def fault_table(faults: Sequence[Fault]) -> str:
    """The first ten faults as lines of text: line, value, what is wrong; empty for a single fault."""
    if len(faults) < 2:
        return ""
    rows = [(str(fault.line), _cut(fault.value), _flat(fault.message)) for fault in faults[:ROWS]]
    shown = [("line", "value" if any(value for _, value, _ in rows) else "", "what is wrong"), *rows]
    line, value = (max(len(row[column]) for row in shown) for column in (0, 1))
    texts = [f"{row[0]:>{line}}  {row[1]:<{value}}{'  ' if value else ''}{row[2]}" for row in shown]
    more = [f"... and {len(faults) - ROWS} more"] if len(faults) > ROWS else []
    return "\n".join([*texts, *more])


def _cut(value: str) -> str:
    flat = _flat(value)
    return flat if len(flat) <= WIDTH else f"{flat[: WIDTH - 3]}..."


def _flat(text: str) -> str:
    return " ".join(text.split())
