"""Ask for the status of long work again and again, but not for ever if the server reports none."""

import re
import time

from reviewtune.errors import ProviderError

SHORTEST_PAUSE = 0.1  # seconds between two requests for a status
NO_STATUS_SECONDS = 60.0
STATUS = re.compile(r"[A-Za-z]{2}[A-Za-z _-]*")  # servers have many of their own, all of them words


class Polling:
    """The pauses between requests for one status.

    Args:
        what: names the work in messages, such as `batch b1`.
        longest: seconds of a pause.
        share: of the time so far that a pause takes, between SHORTEST_PAUSE and `longest`.
    """

    def __init__(self, what: str, *, longest: float, share: float) -> None:
        self._what, self._longest, self._share = what, longest, share
        self._began = self._status_seen = time.monotonic()
        self.count = 0  # of pauses

    @property
    def seconds(self) -> float:
        """Since the first request."""
        return time.monotonic() - self._began

    def wait(self, status: str) -> None:
        """Pause after the server reported this status; what is no word, such as "?", counts as none.

        Raises:
            ProviderError: it has reported no status for NO_STATUS_SECONDS.
        """
        now, self.count = time.monotonic(), self.count + 1
        if isinstance(status, str) and STATUS.fullmatch(status):
            self._status_seen = now
        elif now - self._status_seen > NO_STATUS_SECONDS:
            raise ProviderError(
                f"{self._what}: the provider has reported no status for {now - self._status_seen:.0f} s; it may still "
                "be running: run the same command again to continue, or look at it at the provider"
            )
        time.sleep(min(max(SHORTEST_PAUSE, self.seconds * self._share), self._longest))
