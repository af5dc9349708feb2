"""The one thread that runs models, one step at a time: a part of the prompts, or the next token of running answers.

Between two steps requests join and leave, and another model gets its turn. An answer does not depend on the other
requests of its batch, so grouping changes only the speed.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from reviewtune.local_server.chat.model_memory import ModelMemory
from reviewtune.local_server.chat.served_model import AnswerOrError, Lane, ServedModel, Work
from reviewtune.local_server.engine.types import GenerationRequest
from reviewtune.local_server.models.service import ModelSource

GROUP = 128  # clients that are waited for
GATHER = 0.02  # seconds without a new request after which no more are expected
LULL = 4.0  # seconds without work after which an expected model is loaded

log = logging.getLogger(__name__)


class ModelThread(threading.Thread):
    """Loads models and answers queued requests, clients' requests before those of batches."""

    def __init__(self, cache: Path) -> None:
        super().__init__(name="models", daemon=True)
        self._memory = ModelMemory(cache)
        self._arrived: deque[Work] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._expected: ModelSource | None = None
        self._freeing = False
        self._likely = 0  # clients that may ask next: those just answered, and those that waited in the meantime
        self._models: dict[ModelSource, ServedModel] = {}
        self._steps = 0

    def submit(
        self, source: ModelSource, requests: Sequence[GenerationRequest], *, bulk: bool = False
    ) -> Future[list[AnswerOrError]]:
        """Queue requests for a model.

        Args:
            source: the model.
            requests: its requests.
            bulk: lines of a batch file, which are answered while no client waits.

        Returns:
            One entry per request: its answer, or the exception that this request caused. Cancelling the future stops
            the work before the next step.
        """
        work = Work(source, requests, bulk=bulk)
        with self._changed:
            self._arrived.append(work)
            self._changed.notify()
        return work.answers

    def expect(self, source: ModelSource) -> None:
        """Load this model as soon as there is nothing else to do, so that its first answer comes at once."""
        with self._changed:
            self._expected = source
            self._changed.notify()

    def free_gpu(self) -> None:
        """Free what idle models take of a GPU's memory, for a training that begins; there is far less than on a CPU."""
        with self._changed:
            self._freeing = True
            self._changed.notify()

    def close(self, patience: float) -> bool:
        """Stop; returns False if a model is still working after `patience` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join(patience)
        return not self.is_alive()

    def run(self) -> None:
        while self._take_over():
            for model in self._models.values():
                model.drop_gone()
            self._models = {source: model for source, model in self._models.items() if model.loaded or model.busy}
            if (turn := self._next_turn()) is not None:
                self._step(*turn)
        unfinished = [work for model in self._models.values() for work in model.works]
        for work in (*self._arrived, *unfinished):
            work.drop()

    def _take_over(self) -> bool:
        """Assign new work to its model; without any work, wait for it. Returns False when the thread is to end."""
        while (expected := self._wait()) is not None:
            self._get_ready(self._model(expected))  # without the lock: it may take minutes
        if self._freeing:
            self._freeing = False
            self._memory.free_gpu()
        with self._changed:
            if not self._busy:
                self._gather()
            if self._closing:
                return False
            arrived, self._arrived = self._arrived, deque()
        for work in arrived:
            self._model(work.source).add(work)
        return True

    @property
    def _busy(self) -> bool:
        return any(model.busy for model in self._models.values())

    def _wait(self) -> ModelSource | None:
        """Wait for work; returns the expected model if none comes for a while."""
        with self._changed:
            while not (self._closing or self._freeing or self._arrived or self._busy):
                if not self._changed.wait(LULL if self._expected else None) and self._expected:
                    expected, self._expected = self._expected, None
                    return expected
        return None

    def _gather(self) -> None:
        """Wait briefly for clients that are about to ask again: a step takes hardly longer than for the first of them.

        A single client that asks one question after the other never waits.
        """
        before = 0
        while before < len(self._arrived) < min(self._likely, GROUP) and not self._closing:
            before = len(self._arrived)
            self._changed.wait(GATHER)

    def _model(self, source: ModelSource) -> ServedModel:
        return self._models.setdefault(source, ServedModel(source))

    def _next_turn(self) -> tuple[ServedModel, Lane] | None:
        """What the next step is for: clients before batches, and models in turn."""
        for is_bulk in (False, True):
            lanes = {model: model.bulk if is_bulk else model.clients for model in self._models.values()}
            waiting = [model for model, lane in lanes.items() if len(lane)]
            for model in sorted(waiting, key=lambda model: model.last_step):
                if self._memory.may_load(model, waiting, self._steps):
                    return model, lanes[model]
        return None

    def _step(self, model: ServedModel, lane: Lane) -> None:
        clients = sum(len(model.clients) for model in self._models.values()) + len(self._arrived)
        try:
            self._memory.load(model, self._steps)
            ended = model.step(lane)
        except Exception as error:  # the model cannot be loaded
            log.exception("model %s failed", model.source.name)
            model.fail(error)
            return
        self._steps += 1
        model.last_step = self._steps
        if ended and lane is model.clients:
            self._likely = clients

    def _get_ready(self, model: ServedModel) -> None:
        """Prepare what the first request would wait for."""
        try:
            self._memory.load(model, self._steps)
            model.get_ready()
        except Exception:
            log.exception("model %s failed", model.source.name)
