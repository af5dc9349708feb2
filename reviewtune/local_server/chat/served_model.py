"""The requests for one model: those that wait, and those that it answers, step by step."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.models.service import ModelSource
from reviewtune.local_server.settings import importing

if TYPE_CHECKING:
    from reviewtune.local_server.engine.generation.batching import Batcher
    from reviewtune.local_server.engine.generation.generate import Generator
    from reviewtune.local_server.engine.generation.running_rows import PendingRequest

PREPARED = 64  # requests that are prepared between two steps
STEP_SECONDS = 0.5  # that a step with prompts takes, about
BULK_SECONDS = 1.0  # the same while no client waits: longer steps are more efficient
TOKENS = (256, 2048)  # of prompts that one step reads: fewer are inefficient, more gain nothing
SMOOTHING = 0.7  # of the measured speed

AnswerOrError = GenerationResult | Exception


class Work:
    """Requests for one model, and where their answers go."""

    def __init__(self, source: ModelSource, requests: Sequence[GenerationRequest], *, bulk: bool = False) -> None:
        self.source, self.requests, self.bulk = source, requests, bulk
        self.answers: Future[list[AnswerOrError]] = Future()
        self._results: dict[int, AnswerOrError] = {}
        self._dropped = False
        self._finish_if_complete()

    def finish(self, index: int, answer: AnswerOrError) -> None:
        """Note the answer to one request; the last one completes the work."""
        self._results[index] = answer
        self._finish_if_complete()

    def fail(self, error: Exception) -> None:
        """End all of it with this exception."""
        if not self.answers.done() and self.answers.set_running_or_notify_cancel():
            self.answers.set_exception(error)

    def drop(self) -> None:
        """Cancel it and release whoever waits for it."""
        if not self._dropped and self.answers.cancel():
            self._dropped = True
            self.answers.set_running_or_notify_cancel()  # concurrent.futures.wait returns only after this

    def _finish_if_complete(self) -> None:
        # The future is not marked as running before, so that it can be cancelled at any time.
        if len(self._results) == len(self.requests) and self.answers.set_running_or_notify_cancel():
            self.answers.set_result([self._results[index] for index in range(len(self.requests))])


class Part(NamedTuple):
    """One request of some work."""

    work: Work
    number: int  # from 0

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.work.answers.cancelled()

    def finish(self, answer: AnswerOrError) -> None:
        if not self.work.answers.done():
            self.work.finish(self.number, answer)


class Lane:
    """The requests of clients, or those of batch files."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds  # of a step
        self._waiting: deque[Part] = deque()
        self._answering: dict[PendingRequest, Part] = {}
        self._batcher: Batcher | None = None
        self._speed = 0.0  # tokens of prompts per second; 0: not known

    def __len__(self) -> int:
        return len(self._waiting) + len(self._answering)

    def add(self, work: Work) -> None:
        self._waiting.extend(Part(work, number) for number in range(len(work.requests)))

    def drop_gone(self) -> None:
        """Stop work for clients that have gone."""
        for work in {part.work for part in (*self._waiting, *self._answering.values()) if part.gone}:
            work.drop()
        if any(part.gone for part in self._waiting):
            self._waiting = deque(part for part in self._waiting if not part.gone)
        for request in [request for request, part in self._answering.items() if part.gone]:
            assert self._batcher is not None
            self._batcher.remove(request)
            del self._answering[request]

    def step(self, generator: "Generator") -> int:
        """Prepare requests that wait and compute one step; returns the number of requests that ended."""
        batcher = self._batcher = self._batcher or generator.batcher(TOKENS[0])
        before = len(self)
        self._prepare(generator, batcher)
        started = time.perf_counter()
        for request in batcher.step():
            self._answering.pop(request).finish(request.outcome())
        self._adapt(batcher, time.perf_counter() - started)
        return before - len(self)

    def fail(self, error: Exception) -> None:
        """End everything with this exception."""
        for work in self.works:
            work.fail(error)
        self.clear()

    def clear(self) -> None:
        """Forget everything that belongs to the model in memory."""
        self._waiting, self._answering, self._batcher = deque(), {}, None

    @property
    def works(self) -> list[Work]:
        """What is not finished."""
        parts = (*self._waiting, *self._answering.values())
        return list(dict.fromkeys(part.work for part in parts))

    def _prepare(self, generator: "Generator", batcher: "Batcher") -> None:
        for _ in range(min(PREPARED, len(self._waiting))):
            part = self._waiting.popleft()
            try:
                request = generator.prepare(part.work.requests[part.number])
            except Exception as error:
                part.finish(error)
            else:
                self._answering[request] = part
                batcher.add(request)

    def _adapt(self, batcher: "Batcher", seconds: float) -> None:
        """Read as many tokens in a step as the machine manages in the intended time."""
        if batcher.read >= TOKENS[0] // 4:
            speed = batcher.read / seconds
            self._speed = SMOOTHING * self._speed + (1 - SMOOTHING) * speed if self._speed else speed
            batcher.tokens = min(TOKENS[1], max(TOKENS[0], round(self._speed * self._seconds)))


class ServedModel:
    """A model with its requests.

    Attributes:
        source: the model.
        clients: requests of clients, which wait for the answer.
        bulk: requests of batch files.
        last_step: the number of the thread's step in which it was last used.
        loaded: whether it is in memory.
    """

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.clients, self.bulk = Lane(STEP_SECONDS), Lane(BULK_SECONDS)
        self.last_step = 0
        self.loaded = False
        self._generator: Generator | None = None

    @property
    def busy(self) -> bool:
        return bool(len(self.clients) or len(self.bulk))

    def add(self, work: Work) -> None:
        (self.bulk if work.bulk else self.clients).add(work)

    def drop_gone(self) -> None:
        """Stop work for clients that have gone."""
        self.clients.drop_gone()
        self.bulk.drop_gone()

    @property
    def works(self) -> list[Work]:
        """What is not finished."""
        return [*self.clients.works, *self.bulk.works]

    def fail(self, error: Exception) -> None:
        """End all requests with this exception."""
        self.clients.fail(error)
        self.bulk.fail(error)

    def get_ready(self) -> None:
        """Prepare what the first request would wait for."""
        assert self._generator is not None
        self._generator.get_ready()

    def forget_prefixes(self) -> None:
        """Free what was kept of earlier prompts, if no answer is in progress."""
        if self._generator is not None and not self.busy:
            self._generator.forget_prefixes()

    def step(self, lane: Lane) -> int:
        """Compute one step for clients or for batches; returns the number of requests that ended."""
        assert self._generator is not None
        return lane.step(self._generator)

    def load(self, cache: Path) -> None:
        """Load the weights; answers in progress continue."""
        from reviewtune.local_server.engine.base_models.ensure import base_of_adapter, ensure

        with importing("transformers"):  # it takes seconds, so only here
            from reviewtune.local_server.engine.generation import generate

        source, base = self.source, None
        folder = source.folder or ensure(source.base, cache)
        if source.is_adapter:
            base = base_of_adapter(folder, source.base, cache)
        if self._generator is None:
            self._generator = generate.load(folder, base)
        else:
            self._generator.resume(folder, base)
        self.loaded = True

    def unload(self) -> None:
        """Free the weights; what its answers in progress need is kept."""
        self.loaded = False
        if self.busy and self._generator is not None:
            self._generator.pause()
        else:
            self._generator = None
            self.clients.clear()
            self.bulk.clear()
