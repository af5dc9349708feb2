"""Progress of long work: a bar with the time left on a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOG_EVERY_SECONDS = 15.0


class Step(Protocol):
    def __call__(self, advance: int = 0, *, total: int | None = None, note: str = "") -> None: ...


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Step]:
    """Yields `step(advance, total=, note=)`; safe to call from several threads."""
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
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")

        def step(advance: int = 0, *, total: int | None = None, note: str = "") -> None:
            progress.update(task, advance=advance, total=total)
            if note:
                progress.update(task, note=note)

        yield step


def _log_lines(title: str, total: int | None) -> Step:
    done, size, said, started = 0, total, time.monotonic(), time.monotonic()

    def step(advance: int = 0, *, total: int | None = None, note: str = "") -> None:
        nonlocal done, size, said
        done, size, now = done + advance, total or size, time.monotonic()
        if now - said >= LOG_EVERY_SECONDS or (size and done == size and advance):
            said, elapsed = now, now - started
            left = f", {elapsed / done * (size - done):.0f} s left" if size and 0 < done < size else ""
            text = f"{title}: {done}/{size or '?'} in {elapsed:.0f} s{left} {note}"
            print(text.rstrip(), file=sys.stderr, flush=True)

    return step
