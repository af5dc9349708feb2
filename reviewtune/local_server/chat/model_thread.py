"""The one thread that runs models: it answers requests for the same model together, as one batch.

An answer does not depend on the other requests of its batch, so grouping changes only the speed.
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
GATHER = 0.02  # seconds without a new request after which a group is complete
LULL = 4.0  # seconds without work after which an expected model is loaded

AnswerOrError = GenerationResult | Exception

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Requests for one model, and where their answers go."""

    source: ModelSource
    requests: Sequence[GenerationRequest]
    answers: Future[list[AnswerOrError]] = field(default_factory=Future)


class ModelThread(threading.Thread):
    """Loads models and answers queued requests, clients' requests before those of batches."""

    def __init__(self, cache: Path) -> None:
        super().__init__(name="models", daemon=True)
        self._cache = cache
        self._waiting: deque[Work] = deque()  # requests of clients, which wait for the answer
        self._bulk: deque[Work] = deque()  # slices of batch files; they have lower priority
        self._changed = threading.Condition()
        self._closing = False
        self._expected: ModelSource | None = None
        self._likely = 0  # clients that may ask next: those just answered, and those that waited in the meantime
        self._loaded: OrderedDict[ModelSource, Generator] = OrderedDict()

    def submit(
        self, source: ModelSource, requests: Sequence[GenerationRequest], *, bulk: bool = False
    ) -> Future[list[AnswerOrError]]:
        """Queue requests for a model.

        Args:
            source: the model.
            requests: its requests.
            bulk: a slice of a batch file, which is answered after the requests of clients.

        Returns:
            One entry per request: its answer, or the exception that this request caused.
        """
        work = Work(source, requests)
        with self._changed:
            (self._bulk if bulk else self._waiting).append(work)
            self._changed.notify()
        return work.answers

    def expect(self, source: ModelSource) -> None:
        """Load this model as soon as there is nothing else to do, so that its first answer comes at once."""
        with self._changed:
            self._expected = source
            self._changed.notify()

    def close(self, patience: float) -> bool:
        """Stop; returns False if a model is still working after `patience` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join(patience)
        return not self.is_alive()

    def run(self) -> None:
        while group := self._next_group():
            running = [work for work in group if work.answers.set_running_or_notify_cancel()]
            try:
                self._answer(running)
            except Exception as error:  # the model cannot be loaded
                log.exception("model %s failed", group[0].source.name)
                for work in running:
                    if not work.answers.done():
                        work.answers.set_exception(error)
        for work in (*self._waiting, *self._bulk):
            work.answers.cancel()

    def _next_group(self) -> list[Work]:
        """Work for one model, clients before batches; empty when the thread is to end."""
        with self._changed:
            while not (self._closing or self._waiting or self._bulk):
                if not self._changed.wait(LULL if self._expected else None) and self._expected:
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
        """Wait briefly for clients that are about to ask again: a group takes hardly longer than its first request.

        A single client that asks one question after the other never waits.
        """
        before = 0
        while before < len(self._waiting) < min(self._likely, GROUP) and not self._closing:
            before = len(self._waiting)
            self._changed.wait(GATHER)

    def _answer(self, group: list[Work]) -> None:
        if not group:
            return
        generator = self._load(group[0].source)
        requests = [request for work in group for request in work.requests]
        if not requests:  # loaded because it is expected: prepare what a first request would wait for
            generator.get_ready()
        answers = answer_each(generator, requests)
        with self._changed:
            self._likely = len(self._waiting) + len(group)
        for work in group:
            work.answers.set_result(answers[: len(work.requests)])
            answers = answers[len(work.requests) :]

    def _load(self, source: ModelSource) -> "Generator":
        if source not in self._loaded:
            # torch takes seconds to import, so only here
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
    """Answer all at once; after a failure split in halves until only the request that failed gets an error."""
    try:
        return list(generator.complete(requests))
    except Exception as error:
        if len(requests) == 1:
            return [error]
    middle = len(requests) // 2
    return answer_each(generator, requests[:middle]) + answer_each(generator, requests[middle:])
