"""Answers requests with a model, many at a time; their common prefix is computed once.

An answer does not depend on the other requests of its batch, because attention uses positions, not padding. Sums of
different lengths may differ in their last bits, so this holds except for ties within rounding, which
benchmarks/engine_speed.py counts.
"""

import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from llguidance import LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor

from reviewtune.local_server.engine.attention import ATTENTION, Prefix
from reviewtune.local_server.engine.chat_template import ChatTemplate, Tokens
from reviewtune.local_server.engine.forward import CachedForward
from reviewtune.local_server.engine.generation.constrained_decoding import (
    Choice,
    Constraint,
    Free,
    Grammar,
    Tree,
    answers_of,
    grammar_of,
    tree_of,
)
from reviewtune.local_server.engine.generation.decoding import AnswerInProgress
from reviewtune.local_server.engine.generation.text_stream import TextStream
from reviewtune.local_server.engine.generation.token_bytes import TokenBytes
from reviewtune.local_server.engine.model_loading import LoadedModel, device, fast_precision, load_model
from reviewtune.local_server.engine.types import (
    ContextLengthExceeded,
    GenerationRequest,
    GenerationResult,
    UnknownToken,
)


class BatchSize(NamedTuple):
    """The maximal rows, and tokens including padding, that are processed at a time."""

    rows: int
    tokens: int


PREFIXES = 4  # that are cached
SHORT = BatchSize(rows=64, tokens=2048)  # one of a few answers: the prompts are most of the work, so avoid padding
LONG = BatchSize(rows=128, tokens=8192)  # token by token: a step with many rows takes hardly longer than with few
LONGEST_ANSWER = 1024  # tokens, if the request has no limit: a base model may never end its answer


class PendingRequest:
    """A request with its prompt in tokens and its unfinished answers."""

    def __init__(self, number: int, history: Tokens, rest: Tokens, answers: list[AnswerInProgress]) -> None:
        self.number, self.history, self.rest, self.answers = number, history, rest, answers

    @property
    def short(self) -> bool:
        """Whether the answer is one of a few."""
        return all(answer.constraint.few for answer in self.answers)


class Generator:
    """Answers requests with one model."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._prefixes: OrderedDict[Tokens, Prefix] = OrderedDict()
        self._ends = frozenset({model.chat.end_of_turn, model.chat.tokenizer.eos_token_id})
        self._tree = lru_cache(16)(self._build_tree)
        self._bytes_of = lru_cache(1 << 16)(self._token_bytes())

    def get_ready(self) -> None:
        """Prepare what the first answer with a grammar would wait for."""
        _ = self._vocabulary

    @torch.inference_mode()
    def complete(self, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
        """Answer a batch; results are in the order of the requests. Errors are raised before anything is computed.

        Raises:
            ContextLengthExceeded: a prompt leaves no room for an answer.
            UnknownToken: a bias for a token that is not in the vocabulary.
            UnsupportedSchema: a schema that cannot be compiled.
        """
        pending = [self._prepare(number, request) for number, request in enumerate(requests)]
        results: dict[int, GenerationResult] = {}
        for history, sharing in itertools.groupby(sorted(pending, key=_history), _history):
            cached = len(history) if history in self._prefixes else 0
            prefix = self._prefix(history)
            group = sorted(sharing, key=lambda request: (request.short, len(request.rest), request.number))
            for batch in _batches(group):
                self._answer(prefix, [answer for request in batch for answer in request.answers])
            for request in group:
                choices = tuple(answer.generation() for answer in request.answers)
                results[request.number] = GenerationResult(len(history) + len(request.rest), cached, choices)
                cached = len(history)
        return [results[number] for number in range(len(pending))]

    def _prepare(self, number: int, request: GenerationRequest) -> PendingRequest:
        history, rest = self._model.chat.prompt(request.messages)
        room = self._model.context - len(history) - len(rest)
        if room < 1:
            raise ContextLengthExceeded(self._model.context, len(history) + len(rest))
        if unknown := [token for token in request.logit_bias if token >= len(self._model.head)]:
            raise UnknownToken(unknown[0], len(self._model.head))
        limit = min(room, request.max_tokens or LONGEST_ANSWER)
        answers = [self._new_answer(request, rest, limit, choice) for choice in range(request.n)]
        return PendingRequest(number, history, rest, answers)

    def _new_answer(self, request: GenerationRequest, rest: Tokens, limit: int, choice: int) -> AnswerInProgress:
        random = torch.Generator()
        if request.seed is None:
            random.seed()
        else:
            random.manual_seed(request.seed + choice)
        constraint = self._constraint(request)
        stream = request.listener and TextStream(request.listener, choice, request.stop)
        answer = AnswerInProgress(request, constraint, self._ends, limit, self._to_bytes, random, list(rest), stream)
        answer.begin()
        return answer

    def _constraint(self, request: GenerationRequest) -> Constraint:
        if request.schema is None:
            return Free()
        if (tree := self._tree(json.dumps(request.schema))) is not None:
            return Choice(tree)
        return Grammar(grammar_of(request.schema, self._vocabulary), len(self._model.head))

    def _build_tree(self, schema: str) -> Tree | None:
        answers = answers_of(json.loads(schema))
        if answers is None:
            return None
        chat = self._model.chat
        return tree_of((*chat.plain(answer), chat.end_of_turn) for answer in answers)

    def _answer(self, prefix: Prefix | None, answers: list[AnswerInProgress]) -> None:
        answers = [answer for answer in answers if answer.waiting]
        forward = CachedForward(self._model, prefix, len(answers))
        width = max((len(answer.unread) for answer in answers), default=0)  # prompts: of about equal length
        while answers:
            self._advance(answers, forward.read([answer.unread[:width] for answer in answers]))
            unfinished = [row for row, answer in enumerate(answers) if answer.waiting]
            if 0 < len(unfinished) < len(answers):
                forward.keep(unfinished)
            answers = [answers[row] for row in unfinished]
            width = min((len(answer.unread) for answer in answers), default=0)  # forced tokens: never padded

    def _advance(self, answers: Sequence[AnswerInProgress], hidden: Sequence[Tensor]) -> None:
        """Choose the next token of each answer; all scores are computed in one matrix product."""
        counts = [answer.states_to_score(len(states)) for answer, states in zip(answers, hidden, strict=True)]
        last = torch.cat([states[len(states) - count :] for states, count in zip(hidden, counts, strict=True)])
        scores = (last @ self._model.head.T).float() if len(last) else last
        for answer, states, part in zip(answers, hidden, torch.split(scores, counts), strict=True):
            answer.advance(states, part, self._model.head)

    def _prefix(self, history: Tokens) -> Prefix | None:
        """Keys and values of a history; the most recent ones are cached."""
        if not history:
            return None
        if history not in self._prefixes:
            forward = CachedForward(self._model, None, 1)
            forward.read([history])
            self._prefixes[history] = forward.as_prefix()
            while len(self._prefixes) > PREFIXES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(history)
        return self._prefixes[history]

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return _load_vocabulary(self._model.chat, len(self._model.head))

    def _to_bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._bytes_of(token) for token in tokens)

    def _token_bytes(self) -> Callable[[int], bytes]:
        try:
            return TokenBytes(self._model.chat.tokenizer)
        except ValueError:
            return lambda token: bytes(self._vocabulary.decode_bytes([token]))


def load(folder: Path) -> Generator:
    """Open a model folder for answering.

    Raises:
        ProviderError: the folder does not contain a model with a chat template.
    """
    return Generator(load_model(folder, fast_precision(device()), ATTENTION))


def _history(request: PendingRequest) -> Tokens:
    return request.history


def _batches(requests: Sequence[PendingRequest]) -> list[list[PendingRequest]]:
    """Split requests, ordered by length, into batches of requests of similar length."""
    batches: list[list[PendingRequest]] = [[]]
    for request in requests:
        size = SHORT if request.short else LONG
        rows = sum(len(other.answers) for other in batches[-1]) + len(request.answers)
        too_large = rows > size.rows or rows * len(request.rest) > size.tokens
        if batches[-1] and (too_large or request.short != batches[-1][0].short):
            batches.append([])
        batches[-1].append(request)
    return batches


@lru_cache(maxsize=2)
def _load_vocabulary(chat: ChatTemplate, size: int) -> LLTokenizer:
    """The vocabulary as bytes, for grammars. Takes seconds, so it is loaded once and only if needed."""
    return from_tokenizer(chat.tokenizer, size, chat.end_of_turn)
