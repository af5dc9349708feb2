"""Work in the background: an event loop in a thread, and threads that do not hold up the end of the program.

The loop is for programs without asyncio, which share the connections of those with it.

`asyncio.run` would open new connections for each call, and it cannot be called in a notebook, whose loop is running.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines on one process-wide loop, which starts with the first of them and ends with the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work; Ctrl-C in the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        finally:
            future.cancel()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="reviewtune", daemon=True).start()
            return self._loop


_shared = BackgroundLoop()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on the loop of this process."""
    return _shared.run(work)


def in_daemon_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Start the work in a thread that ends with the program.

    `asyncio.to_thread` has a few threads for everybody, and a program waits for them before it ends.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on nobody can cancel it

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # passed on to those who wait for the result
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _renew() -> None:
    """A forked process has no threads."""
    global _shared
    _shared = BackgroundLoop()


os.register_at_fork(after_in_child=_renew)
