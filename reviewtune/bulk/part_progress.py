"""The progress of all rows, while a classifier reports the progress of one block."""

from collections.abc import Iterator
from contextlib import contextmanager

from reviewtune.core.terminal.progress import Progress, Step


class PartProgress:
    """Passes on what a classifier reports about a block to the bar of all rows.

    Args:
        progress: receives the messages.
        step: of the bar of all rows.
    """

    def __init__(self, progress: Progress, step: Step) -> None:
        self._progress, self._step = progress, step
        self._reported = 0

    def message(self, text: str) -> None:
        self._progress.message(text)

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[Step]:
        yield self._advance

    def end(self, rows: int) -> None:
        """All rows of the block are done, also those that were not reported."""
        self._step(max(rows - self._reported, 0))

    def _advance(
        self, advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None
    ) -> None:
        self._reported += advance
        self._step(advance, note=note)
