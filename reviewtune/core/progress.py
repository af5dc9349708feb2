"""Progress of long work: messages, and a bar with the remaining time on a terminal, or log lines elsewhere.

The library reports to a `Progress` that its caller passes. The default, `SILENT`, writes nothing; commands and stages
pass a `TerminalProgress`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

LOG_EVERY_SECONDS = 15.0


class Step(Protocol):
    def __call__(
        self, advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None
    ) -> None: ...


class Progress(Protocol):
    """Receives what long work reports while it runs."""

    def message(self, text: str) -> None:
        """One line for the user."""

    def bar(self, title: str, total: int | None) -> AbstractContextManager[Step]:
        """Yields a `Step` to call as parts are finished; `total` is the number of parts, None if not known yet."""
        ...


class Silent:
    """Writes nothing."""

    def message(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[Step]:
        yield _no_step


class TerminalProgress:
    """Messages to standard output, or to `stream`; bars to standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def bar(self, title: str, total: int | None) -> AbstractContextManager[Step]:
        return progress_bar(title, total)


def _no_step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
    pass


SILENT = Silent()


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Step]:
    """Yields `step(advance, total=, note=, left=)`; safe to call from several threads.

    `left` is the caller's estimate of the remaining seconds, if it is better than one from the pace of its calls.
    """
    if sys.stderr.isatty():
        with _bar(title, total) as step:
            yield step
    else:
        yield _log_lines(title, total)


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Step]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("[bold]{task.description}"),
        rich.BarColumn(bar_width=20),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        _time_left(),
        rich.TextColumn("{task.fields[note]}", markup=False),  # a note may hold a server's words
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="", left=None)

        def step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
            progress.update(task, advance=advance, total=total, left=left)
            if note:
                progress.update(task, note=note)

        yield step


def _time_left() -> "ProgressColumn":
    """The caller's estimate if there is one, otherwise rich's."""
    from rich.progress import Task, TimeRemainingColumn
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            left = task.fields["left"]
            return (
                super().render(task)
                if left is None
                else Text(str(timedelta(seconds=round(left))), style="progress.remaining")
            )

    return TimeLeft()


def _log_lines(title: str, total: int | None) -> Step:
    done, size, said, started = 0, total, time.monotonic(), time.monotonic()

    def step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
        nonlocal done, size, said
        done, size, now = done + advance, total or size, time.monotonic()
        if now - said >= LOG_EVERY_SECONDS or (size and done == size and advance):
            said, elapsed = now, now - started
            if left is None and size and 0 < done < size:
                left = elapsed / done * (size - done)
            ahead = f", {left:.0f} s left" if left else ""
            text = f"{title}: {done}/{size or '?'} in {elapsed:.0f} s{ahead} {note}"
            print(text.rstrip(), file=sys.stderr, flush=True)

    return step
