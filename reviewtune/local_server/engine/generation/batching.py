"""Continuous batching: requests join and leave a running batch between steps.

A step is one forward pass. Steps for prompts and for answers alternate, and long prompts are read in parts, so a short
answer waits for a few steps at most, whatever else is in progress.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence

import torch

from reviewtune.local_server.engine.attention import Prefix
from reviewtune.local_server.engine.chat_template import Tokens
from reviewtune.local_server.engine.generation.running_rows import MAX_ROWS, PendingRequest, PrefixReader, RunningRows
from reviewtune.local_server.engine.model_loading import LoadedModel

PREFIXES = 4  # that are cached
PROMPTS = 64  # that are read together
LONG_PROMPTS = 4  # that are read in parts at the same time
FEW_TOKENS = 16  # an answer with such a limit ends soon, so it need not wait for others to end

log = logging.getLogger(__name__)


class PrefixCache:
    """Keys and values of the most recent histories."""

    def __init__(self) -> None:
        self._prefixes: OrderedDict[Tokens, Prefix] = OrderedDict()

    def __contains__(self, history: Tokens) -> bool:
        return not history or history in self._prefixes

    def add(self, history: Tokens, prefix: Prefix) -> None:
        self._prefixes[history] = prefix
        while len(self._prefixes) > PREFIXES:
            self._prefixes.popitem(last=False)

    def clear(self) -> None:
        self._prefixes.clear()

    def get(self, history: Tokens) -> Prefix | None:
        if not history:
            return None
        self._prefixes.move_to_end(history)
        return self._prefixes[history]


class Batcher:
    """Decides what each step computes.

    Attributes:
        tokens: of prompts, with padding, that one step reads at most.
        read: tokens that the last step read, with padding.
    """

    def __init__(self, model: LoadedModel, prefixes: PrefixCache, tokens: int) -> None:
        self.tokens = tokens
        self.read = 0
        self._model, self._prefixes = model, prefixes
        self._waiting: list[PendingRequest] = []  # oldest first
        self._long: deque[PrefixReader | RunningRows] = deque()  # prompts that take several steps
        self._running: list[RunningRows] = []
        self._ended: list[PendingRequest] = []
        self._turns = self._take_turns()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._long or self._running or self._ended)

    def add(self, request: PendingRequest) -> None:
        """Answer this request, too."""
        (self._waiting if request.unfinished else self._ended).append(request)

    def remove(self, request: PendingRequest) -> None:
        """Stop all work for this request."""
        for requests in (self._waiting, self._ended):
            if request in requests:
                requests.remove(request)
        for rows in self._all_rows():
            if request in rows.requests:
                rows.remove(request)
        wanted = {request.history for request in self._waiting}
        self._running = [rows for rows in self._running if rows.answers]
        self._long = deque(
            work for work in self._long if (work.history in wanted if isinstance(work, PrefixReader) else work.answers)
        )

    @torch.inference_mode()
    def step(self) -> list[PendingRequest]:
        """Compute one step, if there is anything to compute.

        Returns:
            The requests that ended, with an answer or an error.
        """
        self.read = 0
        if self.busy and not self._ended:
            next(self._turns)
        ended, self._ended = self._ended, []
        return ended

    def _take_turns(self) -> Iterator[None]:
        """Alternate between short prompts, parts of long prompts, and all answers in progress."""
        while True:
            if (prompts := self._next_prompts()) is not None:
                self._step(prompts)
                yield
            if (part := self._next_part()) is not None:
                self._step(part)
                yield
            for rows in tuple(self._running):
                if rows in self._running:  # otherwise it ended or joined others
                    self._running.remove(rows)
                    self._step(rows)
                    yield

    def _step(self, work: PrefixReader | RunningRows) -> None:
        """One forward pass for work that is in no queue; put what remains into its queue."""
        requests = self._sharing(work.history)[:1] if isinstance(work, PrefixReader) else list(work.requests)
        self.read = work.next_tokens(self.tokens)
        try:
            unfinished = self._read(work) if isinstance(work, PrefixReader) else self._advance(work)
        except Exception as error:
            self._isolate(requests, error)
            return
        if unfinished:
            self._long.append(work)
        self._ended += [request for request in requests if not request.unfinished]

    def _read(self, reader: PrefixReader) -> bool:
        prefix = reader.step(self.tokens)
        if prefix is not None:
            self._prefixes.add(reader.history, prefix)
            for request in self._sharing(reader.history)[:1]:
                request.cached = 0  # the others find it in the cache
        return prefix is None

    def _advance(self, rows: RunningRows) -> bool:
        """Returns whether parts of the prompts remain."""
        rows.step(self.tokens)
        if rows.answers and not rows.reading:
            self._place(rows)
        return bool(rows.answers and rows.reading)

    def _place(self, rows: RunningRows) -> None:
        """Let answers in progress join others, if that saves time."""
        for other in self._running:
            if other.may_join(rows):
                other.join(rows)
                return
        self._running.append(rows)

    def _isolate(self, requests: Sequence[PendingRequest], error: Exception) -> None:
        """After a failure: repeat each request alone, so that only the one that caused it gets an error."""
        if len(requests) == 1:
            requests[0].error = error
            if requests[0] in self._waiting:
                self._waiting.remove(requests[0])
            self._ended.extend(requests)
            return
        log.warning("a batch of %d requests failed (%s); repeating each alone", len(requests), error)
        for request in requests:
            request.restart_alone()
        self._waiting[:0] = requests

    def _next_prompts(self) -> PrefixReader | RunningRows | None:
        """The longest-waiting prompt that one step can read, with similar ones; or first the beginning they share."""
        ready = [request for request in self._waiting if self._is_short(request) and self._has_room(request)]
        if not ready:
            return None
        if ready[0].history not in self._prefixes:
            return PrefixReader(self._model, ready[0].history)
        return self._start(_similar(ready[0], ready, self.tokens))

    def _next_part(self) -> PrefixReader | RunningRows | None:
        """The next long prompt, in turn."""
        started = {work.history for work in self._long if isinstance(work, PrefixReader)}
        for request in self._waiting if len(self._long) < LONG_PROMPTS else ():
            if self._is_short(request) or request.history in started or not self._has_room(request):
                continue
            if request.history not in self._prefixes:
                return PrefixReader(self._model, request.history)
            return self._start([request])
        return self._long.popleft() if self._long else None

    def _start(self, requests: list[PendingRequest]) -> RunningRows:
        history, chosen = requests[0].history, set(requests)
        self._waiting = [request for request in self._waiting if request not in chosen]
        for request in requests:
            request.cached = len(history) if request.cached is None else request.cached
        return RunningRows(self._model, self._prefixes.get(history), requests)

    def _is_short(self, request: PendingRequest) -> bool:
        history = 0 if request.history in self._prefixes else len(request.history)
        return max(history, request.size) <= self.tokens

    def _has_room(self, request: PendingRequest) -> bool:
        ends_soon = request.short or (request.request.max_tokens or FEW_TOKENS + 1) <= FEW_TOKENS
        return ends_soon or sum(len(rows.answers) for rows in self._all_rows()) < MAX_ROWS

    def _sharing(self, history: Tokens) -> list[PendingRequest]:
        return [request for request in self._waiting if request.history == history]

    def _all_rows(self) -> list[RunningRows]:
        return [*self._running, *(work for work in self._long if isinstance(work, RunningRows))]


def _similar(first: PendingRequest, requests: Sequence[PendingRequest], tokens: int) -> list[PendingRequest]:
    """Requests to read together with the first one: behind the same history and of about the same length."""
    if first.alone:
        return [first]
    group = [other for other in requests if (other.history, other.short, other.alone) == _kind(first)]
    batch: list[PendingRequest] = []
    for request in sorted(group, key=lambda request: request.longest):
        rows = sum(len(other.answers) for other in batch) + len(request.answers)
        if batch and (rows > PROMPTS or rows * request.longest > tokens):
            if first in batch:
                break
            batch = []
        batch.append(request)
    return batch


def _kind(request: PendingRequest) -> tuple[Tokens, bool, bool]:
    return request.history, request.short, request.alone
