"""Today's date. Everything that depends on it asks here, so that a test can choose the day.

The date decides what is printed and refused. It never reaches a result file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

_chosen: list[date] = []


def today() -> date:
    """The date in UTC, which is the same on all machines of a team."""
    return _chosen[-1] if _chosen else datetime.now(UTC).date()


@contextmanager
def stopped_at(day: date) -> Iterator[None]:
    """Let it be this day inside of the `with`, in all threads."""
    _chosen.append(day)
    try:
        yield
    finally:
        _chosen.pop()
