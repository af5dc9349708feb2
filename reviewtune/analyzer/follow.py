"""Follow the champion: look for another one in the background, and answer with the last known one meanwhile."""

import logging
import threading
import time
from collections.abc import Callable

from reviewtune.analyzer.champion import Champion, ChampionSource
from reviewtune.analyzer.fallback import Chain
from reviewtune.errors import ReviewtuneError

log = logging.getLogger("reviewtune.analyzer")
FIRST_LOOK_SECONDS = 10


class Follower:
    """Holds the chain of the champion. A call that has taken the chain keeps it, whatever happens meanwhile.

    Args:
        source: knows the champion.
        chain_of: opens the chain of a champion, or of what answers without one. Gets the chain before, if any.
        refresh: seconds between two looks; they happen only while reviews come.
    """

    def __init__(
        self,
        source: ChampionSource,
        chain_of: Callable[[Champion | None, Chain | None], Chain],
        *,
        refresh: float,
    ) -> None:
        self._source, self._chain_of, self._refresh = source, chain_of, refresh
        self._looking = threading.Lock()
        self._fault: str | None = None
        self._champion = source.last_known()
        self._champion = source.look() if self._champion is None else self._first(self._champion)
        self._chain = self._opened()
        self._looked_at = time.monotonic()

    @property
    def champion(self) -> Champion | None:
        return self._champion

    def chain(self) -> Chain:
        """The chain of the last known champion; starts a look if the last one was `refresh` seconds ago."""
        if time.monotonic() - self._looked_at >= self._refresh and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, name="reviewtune-champion", daemon=True).start()
        return self._chain

    def _first(self, known: Champion) -> Champion | None:
        """The champion at the start: the last known one, if the registry does not answer soon."""
        seen: list[Champion | None] = []
        look = threading.Thread(target=lambda: seen.append(self._seen()), daemon=True)
        look.start()
        look.join(FIRST_LOOK_SECONDS)
        if look.is_alive():
            self._note(f"no answer within {FIRST_LOOK_SECONDS} s")
        return seen[0] if seen and self._fault is None else known

    def _opened(self) -> Chain:
        """The champion's chain, or that of the one before if its files are gone; the looks try it again."""
        try:
            return self._chain_of(self._champion, None)
        except ReviewtuneError as error:
            if self._champion is None or self._champion.previous is None:
                raise
            before = Champion(self._champion.previous)
            try:
                chain = self._chain_of(before, None)
            except ReviewtuneError:
                raise error from None
            self._champion = before
            self._note(str(error))
            return chain

    def _seen(self) -> Champion | None:
        try:
            return self._source.look()
        except ReviewtuneError as error:
            self._note(str(error))
            return None

    def _look(self) -> None:
        try:
            self._take(self._source.look())
            self._note(None)
        except ReviewtuneError as error:
            self._note(str(error))
        except Exception as error:  # a look that fails must not end the application
            self._note(f"{type(error).__name__}: {error}")
        finally:
            self._looked_at = time.monotonic()
            self._looking.release()

    def _take(self, champion: Champion | None) -> None:
        if champion == self._champion:
            return
        chain = self._chain_of(champion, self._chain)
        chain.head.open()
        self._chain, self._champion = chain, champion
        log.info("the champion is now %s", _name(champion))

    def _note(self, fault: str | None) -> None:
        """Log what has changed."""
        if fault is not None and self._fault is None:
            log.warning("the champion cannot be followed (%s); %s answers", fault, _name(self._champion))
        elif fault is None and self._fault is not None:
            log.info("the champion can be followed again")
        self._fault = fault


def _name(champion: Champion | None) -> str:
    return "the model of the last `dvc repro`" if champion is None else f"version {champion.version}"
