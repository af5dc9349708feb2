"""Progress of long work: messages, and a bar with the remaining time on a terminal, or log lines elsewhere.

The library reports to a `Progress` that its caller passes. The default, `SILENT`, writes nothing; commands and stages
pass a `TerminalProgress`.
"""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TextIO

from reviewtune.core.terminal import time_left
from reviewtune.core.terminal.time_left import Pace

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

    `left` is the caller's estimate of the remaining seconds, if it knows more than the pace of its calls; math.inf: it
    is not known, and that pace would mislead.
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
        rich.TextColumn("{task.fields[parts]}"),
        rich.TimeElapsedColumn(),
        rich.TextColumn("{task.fields[note]}", markup=False),  # a note may hold a server's words
        _time_left(),
    )
    counter = _Counter(total)
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="", parts=counter.parts, counter=counter)

        def step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
            counter.add(advance, total, left)
            progress.update(task, advance=advance, total=total, parts=counter.parts)
            if note:
                progress.update(task, note=note)

        yield step


def _time_left() -> "ProgressColumn":
    """The time left, worked out again with every look at the bar."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text(time_left.in_words(task.fields["counter"].seconds_left()), style="progress.remaining")

    return TimeLeft()


def _log_lines(title: str, total: int | None) -> Step:
    counter, reported, started = _Counter(total), time.monotonic(), time.monotonic()

    def step(advance: int = 0, *, total: int | None = None, note: str = "", left: float | None = None) -> None:
        nonlocal reported
        counter.add(advance, total, left)
        now = time.monotonic()
        if now - reported >= LOG_EVERY_SECONDS or (counter.complete and advance):
            reported = now
            elapsed, left_in_words = f"{now - started:.0f} s", time_left.in_words(counter.seconds_left())
            so_far = f"{counter.parts} in {elapsed}" if counter.parts else f"{elapsed} so far"
            line = f"{title}: {', '.join(filter(None, [so_far, left_in_words, note]))}"
            print(line, file=sys.stderr, flush=True)

    return step


class _Counter:
    """How many parts are done, and the time left for the others; safe to use from several threads."""

    def __init__(self, total: int | None) -> None:
        self._done, self._total = 0, total
        self._ends: float | None = None  # by the caller's estimate, on the monotonic clock
        self._pace, self._lock = Pace(), Lock()

    @property
    def complete(self) -> bool:
        return bool(self._total) and self._done == self._total

    @property
    def parts(self) -> str:
        """`3/193`; empty while nothing is done and the number of parts is not known."""
        return f"{self._done}/{self._total}" if self._total else f"{self._done}" if self._done else ""

    def add(self, advance: int, total: int | None, left: float | None) -> None:
        """`left` as in `progress_bar`."""
        with self._lock:
            self._done, self._total = self._done + advance, total or self._total
            self._ends = None if left is None else time.monotonic() + left
            if advance:
                self._pace.note(time.monotonic(), self._done)

    def seconds_left(self) -> float | None:
        """Seconds; None while no estimate can be trusted, and when all is done."""
        with self._lock:
            now = time.monotonic()
            if self.complete:
                return None
            if self._ends is not None:
                return max(self._ends - now, 1.0) if math.isfinite(self._ends) else None
            return self._pace.seconds_left(self._total, now) if self._total else None
