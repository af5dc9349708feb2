"""Answers that are computed together, and the prompts that are read for them, one forward pass per step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reviewtune.local_server.engine.attention import Prefix
from reviewtune.local_server.engine.chat_template import Tokens
from reviewtune.local_server.engine.forward import CachedForward
from reviewtune.local_server.engine.generation.decoding import AnswerInProgress
from reviewtune.local_server.engine.model_loading import LoadedModel
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult

MAX_ROWS = 128  # a step with so many rows takes hardly longer than with few
SCORED = 256  # tokens of prompts whose scores are in memory at a time: each takes a number per token of the vocabulary
SPARE = 4096  # stored tokens of padding that cost less than a second pass over the weights

NewAnswers = Callable[[], list[AnswerInProgress]]


class PendingRequest:
    """A request with its prompt in tokens and its unfinished answers.

    Attributes:
        request: what to answer.
        history: tokens of all messages but the last.
        rest: tokens of the prompt from there on.
        answers: one per choice.
        text: the text of a prompt that was given as it is, in UTF-8.
        cached: how many tokens of the prompt need not be read, because their keys and values are known.
        error: why there is no answer.
        alone: whether to answer it in a separate batch, because a batch with it failed.
    """

    def __init__(self, request: GenerationRequest, history: Tokens, rest: Tokens, new_answers: NewAnswers) -> None:
        self.request, self.history, self.rest = request, history, rest
        self.text = b""
        self.cached: int | None = None
        self.error: Exception | None = None
        self.alone = False
        self._new_answers = new_answers
        self.answers = new_answers()

    @property
    def short(self) -> bool:
        """Whether the answer is one of a few."""
        return all(answer.constraint.few for answer in self.answers)

    @property
    def longest(self) -> int:
        """Tokens to read before the answer can be chosen."""
        return max((len(answer.unread) for answer in self.answers), default=0)

    @property
    def size(self) -> int:
        """The same for all choices."""
        return len(self.answers) * self.longest

    @property
    def unfinished(self) -> bool:
        return self.error is None and any(answer.waiting for answer in self.answers)

    def restart_alone(self) -> None:
        """Begin again; a listener gets the same text again."""
        self.alone = True
        self.answers = self._new_answers()

    def outcome(self) -> GenerationResult | Exception:
        """The answer, or the exception that this request caused."""
        return self.error or self.result()

    def result(self) -> GenerationResult:
        """The answer.

        Raises:
            Exception: the one that this request caused.
        """
        if self.error is not None:
            raise self.error
        choices = tuple(answer.generation() for answer in self.answers)
        return GenerationResult(len(self.history) + len(self.rest), self.cached or 0, choices, self.text)


class RunningRows:
    """A batch of answers; rows leave when they are finished and may join between two steps."""

    def __init__(self, model: LoadedModel, prefix: Prefix | None, requests: Sequence[PendingRequest]) -> None:
        self._model = model
        self.requests = list(requests)
        self.answers = [answer for request in requests for answer in request.answers if answer.waiting]
        self._forward = CachedForward(model, prefix, len(self.answers))
        self._to_read = max((len(answer.unread) for answer in self.answers), default=0)

    @property
    def reading(self) -> bool:
        """Whether parts of the prompts have not been read."""
        return self._to_read > 0

    def next_tokens(self, tokens: int) -> int:
        """How many tokens the next step reads, with padding."""
        return len(self.answers) * self._width(tokens)

    def step(self, tokens: int) -> None:
        """Read the next part of the prompts, at most `tokens` with padding, or the newest token of every answer."""
        width = self._width(tokens)
        self._to_read = max(0, self._to_read - width)
        self._advance(self._forward.read([answer.unread[:width] for answer in self.answers]))
        self._keep([answer.waiting for answer in self.answers])

    def remove(self, request: PendingRequest) -> None:
        """Stop work for this request."""
        self.requests.remove(request)
        self._keep([not any(answer is other for other in request.answers) for answer in self.answers])

    def may_join(self, other: "RunningRows") -> bool:
        """Whether one step for both takes less time than two: only if there are few rows and little padding."""
        ours, others = self._forward, other._forward
        if any(request.alone for request in (*self.requests, *other.requests)):
            return False
        rows, width = ours.rows + others.rows, max(ours.width, others.width)
        if ours.prefix is not others.prefix:
            width = max(forward.width + _length(forward.prefix) for forward in (ours, others))
        return rows <= MAX_ROWS and rows * width <= ours.stored + others.stored + SPARE

    def join(self, other: "RunningRows") -> None:
        """Take over the rows of another batch."""
        self._forward.join(other._forward)
        self.answers += other.answers
        self.requests += other.requests

    def _width(self, tokens: int) -> int:
        if not self.reading:
            return min(len(answer.unread) for answer in self.answers)  # forced tokens: never padded
        if any(answer.request.score_prompt for answer in self.answers):
            tokens = min(tokens, SCORED)
        return min(self._to_read, max(1, tokens // len(self.answers)))

    def _advance(self, hidden: Sequence[Tensor]) -> None:
        """Choose the next token of each answer; all scores are computed in one matrix product."""
        counts = [answer.states_to_score(len(states)) for answer, states in zip(self.answers, hidden, strict=True)]
        last = torch.cat([states[len(states) - count :] for states, count in zip(hidden, counts, strict=True)])
        scores = (last @ self._model.head.T).float() if len(last) else last
        for answer, states, part in zip(self.answers, hidden, torch.split(scores, counts), strict=True):
            answer.advance(states, part, self._model.head)

    def _keep(self, kept: Sequence[bool]) -> None:
        rows = [row for row, keep in enumerate(kept) if keep]
        if 0 < len(rows) < len(self.answers):
            self._forward.keep(rows)
        self.answers = [self.answers[row] for row in rows]
        self.requests = [request for request in self.requests if request.unfinished]


class PrefixReader:
    """Reads the beginning that prompts share."""

    def __init__(self, model: LoadedModel, history: Tokens) -> None:
        self.history = history
        self._forward = CachedForward(model, None, 1)
        self._unread = history

    def next_tokens(self, tokens: int) -> int:
        """How many tokens the next step reads."""
        return min(tokens, len(self._unread))

    def step(self, tokens: int) -> Prefix | None:
        """Read the next part; returns the prefix if that was the last one."""
        self._forward.read([self._unread[:tokens]])
        self._unread = self._unread[tokens:]
        return None if self._unread else self._forward.as_prefix()


def _length(prefix: Prefix | None) -> int:
    return prefix.length if prefix else 0
