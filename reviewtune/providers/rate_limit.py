"""When the next request may go: allowed requests and tokens a minute, the pauses that the provider asks for, and how
many a server of this machine can answer before they time out.

aiolimiter is not used, for three reasons. With a limit of N per minute it lets N requests go at once, then more as time
passes, so one minute can hold up to twice the limit. It refuses a request of more tokens than the limit, which must
only wait here. And it cannot be held while the provider asks for a pause (`Retry-After`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SHARE = 0.25
"""Of the time-out, in which all requests in flight should be answered: some take longer than their size says."""
FIRST_BYTES = 8_000
"""In flight until a speed is known, about 40 short reviews."""
SHORTEST = 0.001  # seconds


class Pace:
    """Spreads requests evenly, so that no minute, wherever it begins, holds more than is allowed. None: no limit."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next = 0.0  # on the event loop's clock
        self._held_until = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until a request of this many tokens, prompt and longest answer together, may be sent."""
        clock = asyncio.get_running_loop().time
        while True:
            start = max(clock(), self._next, self._held_until)
            self._next = start + max(self._per_request, tokens * self._per_token)
            while (wait := start - clock()) > 0:
                await asyncio.sleep(wait)
            if self._held_until <= start:
                return

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: a provider that refuses one request for its rate refuses all."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)


class InFlight:
    """Keeps no more in flight than can be answered in time, by the speed so far.

    A server that computes on this machine takes as long for all requests as for one after the other, and the last
    one waits for all: on a busy machine longer than the time-out. Then it would be sent, and computed, again and again.

    Args:
        timeout: in seconds; None: no limit, as for services that answer each request on its own.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._changed = asyncio.Condition()
        self._requests = self._bytes = 0  # in flight
        self._answered: int | None = None  # bytes; None: not even the first request, which may load the model
        self._busy, self._since = 0.0, 0.0  # seconds with requests in flight, and when they began

    @asynccontextmanager
    async def place(self, size: int) -> AsyncIterator[None]:
        """Wait until a request of this many bytes may be sent; in the block it is in flight.

        Args:
            size: of what the server has to compute for this request alone.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(size))
            if not self._requests:
                self._since = _now()
            self._requests, self._bytes = self._requests + 1, self._bytes + size
        try:
            yield
        finally:
            async with self._changed:
                self._requests, self._bytes = self._requests - 1, self._bytes - size
                if not self._requests:
                    self._busy += _now() - self._since
                self._changed.notify_all()

    def note(self, size: int) -> None:
        """An answer to a request of this size came. The first one only begins the measurement."""
        if self._answered is None:
            self._answered, self._busy, self._since = 0, 0.0, _now()
        else:
            self._answered += size

    def _has_room(self, size: int) -> bool:
        """A single request always has: it may be the only one that is left, however long it is."""
        if self._timeout is None or not self._requests:
            return True
        if not self._answered:
            return self._bytes + size <= FIRST_BYTES
        speed = self._answered / max(self._busy + _now() - self._since, SHORTEST)
        return self._bytes + size <= SHARE * self._timeout * speed


def _now() -> float:
    return asyncio.get_running_loop().time()
