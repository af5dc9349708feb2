"""When the next request may go: allowed requests and tokens a minute, and the pauses that the provider asks for.

aiolimiter is not used, for three reasons. With a limit of N per minute it lets N requests go at once, then more as time
passes, so one minute can hold up to twice the limit. It refuses a request of more tokens than the limit, which must
only wait here. And it cannot be held while the provider asks for a pause (`Retry-After`).
"""

import asyncio


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
