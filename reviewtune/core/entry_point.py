"""What a stage or a command runs in."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from reviewtune.errors import one_line_errors

RARELY = 100_000  # new objects between two looks for garbage; Python's own number is 700


@contextmanager
def program() -> Iterator[None]:
    """The user's errors are one line and exit status 1, and garbage is looked for rarely."""
    with rare_collections(), one_line_errors():
        yield


@contextmanager
def rare_collections() -> Iterator[None]:
    """The libraries are a million objects that stay: to look for garbage among them took 1.7 of a stage's 9 s."""
    thresholds = gc.get_threshold()
    gc.set_threshold(RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
