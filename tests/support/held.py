"""Hold a server's replies, so that a test can kill the client at a moment that it knows."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.odd_server import Asked, OddServer

LONGEST = 300.0  # seconds
LATE = 0.5  # seconds in which requests arrive that a killed client has sent already


class HeldError(Exception):
    """Instead of a reply: the connection is closed."""


@contextmanager
def held(server: OddServer, route: str, *, after: int = 0, does_it: bool = False) -> Iterator[threading.Event]:
    """In the block, requests of this route get no reply after the first `after` ones, and are hung up at its end.

    Args:
        server: the server.
        route: a key of its routes.
        after: number of requests that get their reply.
        does_it: whether the server does what was asked all the same.

    Yields:
        An event that is set when the first request waits.
    """
    usual, turn, waits, ended = server.routes[route], threading.Semaphore(after), threading.Event(), threading.Event()

    def reply(asked: Asked) -> object:
        if turn.acquire(blocking=False):
            return usual(asked)
        if does_it:
            usual(asked)
        waits.set()
        ended.wait(LONGEST)
        raise HeldError

    server.routes[route] = reply
    try:
        yield waits
    finally:
        ended.set()
        time.sleep(LATE)
        server.routes[route] = usual
