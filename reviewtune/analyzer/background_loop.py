"""An event loop in a thread, so that programs without asyncio share the connections of those with it.

`asyncio.run` would open new connections for each call, and it cannot be called in a notebook, whose loop is running.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines one process-wide loop, which starts with the first of them and ends with the program."""

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


def _renew() -> None:
    """A forked process has no threads."""
    global _shared
    _shared = BackgroundLoop()


os.register_at_fork(after_in_child=_renew)
