"""The bounded queue: how many reviews may wait for an answer, and when to come again once it is full.

Everything runs on the event loop's thread.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

SMOOTHING = 0.9  # of the time per review: about the last ten requests count
LONGEST_WAIT = 60  # seconds that a client is asked to wait


class QueueFullError(Exception):
    """There is no place for these reviews; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class ReviewQueue:
    """Counts the reviews without an answer, whether they wait or are with the provider.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.reviews = limit, 0
        self._seconds_a_review = 0.1
        self._last = time.monotonic()  # when the last request left, or the first entered

    @contextmanager
    def places(self, reviews: int) -> Iterator[None]:
        """Take places until the end of the block, however it ends.

        Raises:
            QueueFullError: fewer places are free.
        """
        if self.reviews + reviews > self.limit:
            raise QueueFullError(self.retry_after)
        if not self.reviews:
            self._last = time.monotonic()
        self.reviews += reviews
        try:
            yield
        finally:
            self.reviews -= reviews
            self._note(reviews)

    @property
    def retry_after(self) -> int:
        """Whole seconds in which about half of the queue is answered, from 1 to LONGEST_WAIT."""
        return min(LONGEST_WAIT, max(1, math.ceil(self.reviews * self._seconds_a_review / 2)))

    def _note(self, reviews: int) -> None:
        now = time.monotonic()
        self._seconds_a_review = SMOOTHING * self._seconds_a_review + (1 - SMOOTHING) * (now - self._last) / reviews
        self._last = now
