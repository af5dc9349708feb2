"""The model that answers: opened in the background, and looked at again every few seconds."""

import asyncio
from typing import NamedTuple

from reviewtune.analyzer.background_loop import in_daemon_thread
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.deployment.app.metrics import AppMetrics
from reviewtune.deployment.app.request_log import events
from reviewtune.deployment.app.settings import AppSettings
from reviewtune.errors import ReviewtuneError

LONGEST_PAUSE = 5.0  # seconds between two looks; the analyzer looks for another champion every `refresh` seconds
SHARE_OF_ONE = 0.3  # of a request's time, for one model of the chain
OPENING = "the model is being opened"


class ModelState(NamedTuple):
    """What is known about the model: why it cannot answer (None: it can), its name, version and labels."""

    unready: str | None
    model: str = ""
    version: str | None = None
    labels: tuple[str, ...] = ()


class CurrentModel:
    """Holds the analyzer once there is a model, and what the last look at it showed.

    Args:
        settings: which model, and how often to look for another champion.
        metrics: receive the model's name and whether the service is ready.
    """

    def __init__(self, settings: AppSettings, metrics: AppMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.analyzer: ReviewAnalyzer | None = None
        self.state = ModelState(OPENING)

    async def watch(self) -> None:
        """Open the analyzer as soon as there is a model, then look at it again and again."""
        while True:
            look = in_daemon_thread(self._look, "reviewtune-look")  # the process may end before the registry answers
            self._note(await asyncio.wrap_future(look))
            await asyncio.sleep(min(self._settings.refresh, LONGEST_PAUSE))

    def _look(self) -> ModelState:
        """The state now; takes seconds if something has to be opened."""
        try:
            analyzer = self.analyzer = self.analyzer or self._opened()
            return ModelState(analyzer.unready(), analyzer.model, analyzer.version, analyzer.labels)
        except ReviewtuneError as error:
            return ModelState(str(error))
        except Exception as error:  # one look that fails must not end the watch
            events.exception("the look at the model crashed")
            return ModelState(f"the look at the model failed ({type(error).__name__}); the log has more")

    def _opened(self) -> ReviewAnalyzer:
        """A model gets less than a third of a request's time: the chain has three, one after the other."""
        settings = self._settings
        seconds = SHARE_OF_ONE * settings.timeout
        return ReviewAnalyzer(
            served_model=settings.served_model, refresh=settings.refresh, timeout=seconds, call_timeout=seconds
        )

    def _note(self, state: ModelState) -> None:
        """Log and count what has changed."""
        before, self.state = self.state, state
        if state.unready != before.unready:
            facts = {"reason": state.unready} if state.unready else {}
            events.info("not ready" if state.unready else "ready", extra={"facts": facts})
        self._metrics.note_ready(state.unready is None)
        if state.model and state[1:] != before[1:]:
            self._metrics.note_model(state.model, state.version, state.labels)
            events.info("model", extra={"facts": {"model": state.model, "version": state.version}})
