"""Work on items one after the other in a thread, while the caller prepares the next item and takes the last result."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from reviewtune.analyzer.background_loop import in_daemon_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(items: Iterable[Item], work: Callable[[Item], Result], *, name: str) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in order; at most three items are in memory.

    One is being worked on, the next one is being read, and the last one is with the caller. The thread ends with the
    program, so Ctrl-C waits for nothing.

    Args:
        items: are taken only when there is room for one.
        work: is never called twice at the same time.
        name: of the thread.

    Raises:
        Exception: what `work` raised, in the place of the item's result; or what `items` raised, after the results of
            the items before.
    """
    reader, fault = iter(items), None
    before: tuple[Item, Future[Result]] | None = None
    while True:
        try:
            item = next(reader)
        except StopIteration:
            break
        except Exception as error:
            fault = error
            break
        done = before and (before[0], before[1].result())
        before = item, _started(work, item, name)
        if done:
            yield done
    if before:
        yield before[0], before[1].result()
    if fault:
        raise fault


def _started(work: Callable[[Item], Result], item: Item, name: str) -> Future[Result]:
    return in_daemon_thread(lambda: work(item), name)
