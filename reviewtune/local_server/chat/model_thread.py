"""The one thread that runs models: it answers together whatever waits for the same model.

The engine's answers do not depend on who shares the batch, so grouping changes nothing but the speed.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.models.service import ModelSource

if TYPE_CHECKING:
    from reviewtune.local_server.engine.generation.generate import Generator

KEPT_MODELS = 2  # loaded at a time
GROUP = 128  # single requests that are answered together
GATHER = 0.02  # seconds without a newcomer after which nobody is waited for
LULL = 4.0  # seconds without work after which an expected model is opened

AnswerOrError = GenerationResult | Exception

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    source: ModelSource
    requests: Sequence[GenerationRequest]
    answers: Future[list[AnswerOrError]] = field(default_factory=Future)


class ModelThread(threading.Thread):
    def __init__(self, cache: Path) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self._cache = cache
        self._waiting: deque[Work] = deque()  # of clients that wait for the answer
        self._bulk: deque[Work] = deque()  # slices of batch files; they give way
        self._news = threading.Condition()
        self._closing = False
        self._expected: ModelSource | None = None
        self._coming = 0  # clients that may come next: those last answered, and those who waited meanwhile
        self._loaded: OrderedDict[ModelSource, Generator] = OrderedDict()

    def submit(
        self, source: ModelSource, requests: Sequence[GenerationRequest], *, bulk: bool = False
    ) -> Future[list[AnswerOrError]]:
        """Queue requests for a model. Each gets an answer or the exception that it alone caused."""
        work = Work(source, requests)
        with self._news:
            (self._bulk if bulk else self._waiting).append(work)
            self._news.notify()
        return work.answers

    def expect(self, source: ModelSource) -> None:
        """Open this model as soon as there is nothing to do: its first answer then comes at once."""
        with self._news:
            self._expected = source
            self._news.notify()

    def close(self, patience: float) -> bool:
        """Stop; False if a model is still at work after `patience` seconds."""
        with self._news:
            self._closing = True
            self._news.notify()
        self.join(patience)
        return not self.is_alive()

    def run(self) -> None:
        while group := self._next_group():
            running = [work for work in group if work.answers.set_running_or_notify_cancel()]
            try:
                self._answer(running)
            except Exception as error:  # the model can't be loaded
                log.exception("model %s failed", group[0].source.name)
                for work in running:
                    if not work.answers.done():
                        work.answers.set_exception(error)
        for work in (*self._waiting, *self._bulk):
            work.answers.cancel()

    def _next_group(self) -> list[Work]:
        """Work for one model, clients before batches; empty at the end."""
        with self._news:
            while not (self._closing or self._waiting or self._bulk):
                if not self._news.wait(LULL if self._expected else None) and self._expected:
                    expected, self._expected = self._expected, None
                    return [Work(expected, ())]
            if self._closing:
                return []
            if not self._waiting:
                return [self._bulk.popleft()]
            self._gather()
            source = self._waiting[0].source
            group = [work for work in self._waiting if work.source == source][:GROUP]
            self._waiting = deque(work for work in self._waiting if work not in group)
            return group

    def _gather(self) -> None:
        """Let those who ask again join: a group is answered in hardly more time than the first of it. Who asks alone,
        one question after the other, waits for nobody."""
        seen = 0
        while seen < len(self._waiting) < min(self._coming, GROUP) and not self._closing:
            seen = len(self._waiting)
            self._news.wait(GATHER)

    def _answer(self, group: list[Work]) -> None:
        if not group:
            return
        generator = self._load(group[0].source)
        requests = [request for work in group for request in work.requests]
        if not requests:  # opened because it is expected: there is time for all that a request may want
            generator.get_ready()
        answers = answer_each(generator, requests)
        with self._news:
            self._coming = len(self._waiting) + len(group)
        for work in group:
            work.answers.set_result(answers[: len(work.requests)])
            answers = answers[len(work.requests) :]

    def _load(self, source: ModelSource) -> "Generator":
        if source not in self._loaded:
            from reviewtune.local_server.engine import base_models
            from reviewtune.local_server.engine.generation import generate

            while len(self._loaded) >= KEPT_MODELS:
                self._loaded.popitem(last=False)
            log.info("loading model %s", source.name)
            folder = source.folder or base_models.ensure(source.name, self._cache)
            self._loaded[source] = generate.load(folder)
        self._loaded.move_to_end(source)
        return self._loaded[source]


def answer_each(generator: "Generator", requests: Sequence[GenerationRequest]) -> list[AnswerOrError]:
    """Answer all at once; on a fault halve until it stands alone, so that it harms nobody else."""
    try:
        return list(generator.complete(requests))
    except Exception as error:
        if len(requests) == 1:
            return [error]
    middle = len(requests) // 2
    return answer_each(generator, requests[:middle]) + answer_each(generator, requests[middle:])
