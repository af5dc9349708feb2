"""The model that answers: opened in the background, and looked at again every few seconds."""

import asyncio
from collections.abc import Callable

from reviewtune.deployment.app.contract import Analyzer
from reviewtune.deployment.app.metrics import AppMetrics
from reviewtune.deployment.app.request_log import events
from reviewtune.errors import ReviewtuneError

OPENING = "the model is being opened"
NO_ANSWER = "the model's provider did not answer"


class CurrentModel:
    """Holds the analyzer, and why the service cannot answer if it cannot.

    Args:
        open_analyzer: opens the analyzer; may take seconds, so it runs in a thread.
        refresh: seconds between two looks.
        metrics: receive the model's name and whether the service is ready.
    """

    def __init__(self, open_analyzer: Callable[[], Analyzer], *, refresh: float, metrics: AppMetrics) -> None:
        self._open, self._refresh, self._metrics = open_analyzer, refresh, metrics
        self.analyzer: Analyzer | None = None
        self.unready: str | None = OPENING
        self._known: tuple[str, str | None] | None = None

    async def watch(self) -> None:
        """Open the analyzer as soon as there is a model, then ask again and again whether it can answer."""
        while True:
            self._note(await self._look())
            await asyncio.sleep(self._refresh)

    async def _look(self) -> str | None:
        """Why the service cannot answer now; None: it can."""
        try:
            if self.analyzer is None:
                self.analyzer = await asyncio.to_thread(self._open)
            return None if await asyncio.to_thread(self.analyzer.ready) else NO_ANSWER
        except ReviewtuneError as error:
            return str(error)
        except Exception as error:  # one look that fails must not end the watch
            events.exception("the look at the model crashed")
            return f"the look at the model failed ({type(error).__name__}); the log has more"

    async def close(self) -> None:
        """Close the analyzer's connections."""
        if self.analyzer is not None:
            await asyncio.to_thread(self.analyzer.close)

    def _note(self, unready: str | None) -> None:
        """Log what has changed."""
        if unready != self.unready:
            facts = {"reason": unready} if unready else {}
            events.info("not ready" if unready else "ready", extra={"facts": facts})
        self.unready = unready
        self._metrics.note_ready(unready is None)
        self.note_model()

    def note_model(self) -> None:
        """Log and count another model than before."""
        if self.analyzer is None or self._known == (now := (self.analyzer.model, self.analyzer.version)):
            return
        self._known = now
        self._metrics.note_model(*now, self.analyzer.labels)
        events.info("model", extra={"facts": {"model": now[0], "version": now[1]}})
