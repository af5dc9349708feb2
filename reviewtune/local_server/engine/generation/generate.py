"""Answers from a model folder: many requests at a time, their common beginning read once.

An answer does not depend on who shares the batch: attention goes by position, not by padding. Sums of other lengths
may differ in their last bits, so this holds but for ties within rounding; benchmarks/engine_speed.py counts those.
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
    """Most rows, and most tokens with their padding, that are read at a time."""

    rows: int
    tokens: int


PREFIXES = 4  # that are kept
SHORT = BatchSize(
    rows=64, tokens=2048
)  # answers of a few choices: reading prompts is the work, and padding a waste of it
LONG = BatchSize(rows=128, tokens=8192)  # token by token: a step costs hardly more for many rows than for few
LONGEST_ANSWER = 1024  # tokens, where the request names no limit: an untuned model may never end its turn


class PendingRequest:
    """A request on its way: its prompt in tokens, and its answers in the making."""

    def __init__(self, number: int, history: Tokens, rest: Tokens, answers: list[AnswerInProgress]) -> None:
        self.number, self.history, self.rest, self.answers = number, history, rest, answers

    @property
    def short(self) -> bool:
        """The answer is one of a few."""
        return all(answer.constraint.few for answer in self.answers)


class Generator:
    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._prefixes: OrderedDict[Tokens, Prefix] = OrderedDict()
        self._ends = frozenset({model.chat.end_of_turn, model.chat.tokenizer.eos_token_id})
        self._tree = lru_cache(16)(self._build_tree)
        self._spelling = lru_cache(1 << 16)(self._speller())

    def get_ready(self) -> None:
        """Do now what the first answer with a grammar would have to wait for."""
        _ = self._words

    @torch.inference_mode()
    def complete(self, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
        """Answer a batch; the answers come in the order of the requests.

        Raises:
            ContextLengthExceeded: a prompt leaves no room for an answer. Nothing was computed.
            UnknownToken: a bias for a token that the vocabulary lacks. Nothing was computed.
            UnsupportedSchema: a schema that no grammar can be made of. Nothing was computed.
        """
        jobs = [self._job(number, request) for number, request in enumerate(requests)]
        results: dict[int, GenerationResult] = {}
        for history, sharing in itertools.groupby(sorted(jobs, key=lambda job: job.history), lambda job: job.history):
            cached = len(history) if history in self._prefixes else 0
            prefix = self._prefix(history)
            group = sorted(sharing, key=lambda job: (job.short, len(job.rest), job.number))
            for batch in _batches(group):
                self._answer(prefix, [answer for job in batch for answer in job.answers])
            for job in group:
                choices = tuple(answer.generation() for answer in job.answers)
                results[job.number] = GenerationResult(len(history) + len(job.rest), cached, choices)
                cached = len(history)
        return [results[number] for number in range(len(jobs))]

    def _job(self, number: int, request: GenerationRequest) -> PendingRequest:
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
        dice = torch.Generator()
        if request.seed is None:
            dice.seed()
        else:
            dice.manual_seed(request.seed + choice)
        constraint = self._constraint(request)
        narrator = request.listener and TextStream(request.listener, choice, request.stop)
        answer = AnswerInProgress(request, constraint, self._ends, limit, self._spell, dice, list(rest), narrator)
        answer.begin()
        return answer

    def _constraint(self, request: GenerationRequest) -> Constraint:
        if request.schema is None:
            return Free()
        if (tree := self._tree(json.dumps(request.schema))) is not None:
            return Choice(tree)
        return Grammar(grammar_of(request.schema, self._words), len(self._model.head))

    def _build_tree(self, schema: str) -> Tree | None:
        answers = answers_of(json.loads(schema))
        if answers is None:
            return None
        chat = self._model.chat
        return tree_of((*chat.plain(answer), chat.end_of_turn) for answer in answers)

    def _answer(self, prefix: Prefix | None, answers: list[AnswerInProgress]) -> None:
        answers = [answer for answer in answers if answer.waiting]
        reader = CachedForward(self._model, prefix, len(answers))
        together = max((len(answer.unread) for answer in answers), default=0)  # prompts: as long as their neighbours
        while answers:
            self._go_on(answers, reader.read([answer.unread[:together] for answer in answers]))
            going_on = [row for row, answer in enumerate(answers) if answer.waiting]
            if 0 < len(going_on) < len(answers):
                reader.keep(going_on)
            answers = [answers[row] for row in going_on]
            together = min((len(answer.unread) for answer in answers), default=0)  # forced words: never padded

    def _go_on(self, answers: Sequence[AnswerInProgress], hidden: Sequence[Tensor]) -> None:
        """One more choice for each answer; all that look at every word do so in one product."""
        compared = [answer.compared(len(states)) for answer, states in zip(answers, hidden, strict=True)]
        last = torch.cat([states[len(states) - count :] for states, count in zip(hidden, compared, strict=True)])
        scores = (last @ self._model.head.T).float() if len(last) else last
        for answer, states, part in zip(answers, hidden, torch.split(scores, compared), strict=True):
            answer.go_on(states, part, self._model.head)

    def _prefix(self, history: Tokens) -> Prefix | None:
        """Keys and values of a history; the last few are kept."""
        if not history:
            return None
        if history not in self._prefixes:
            reader = CachedForward(self._model, None, 1)
            reader.read([history])
            self._prefixes[history] = reader.as_prefix()
            while len(self._prefixes) > PREFIXES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(history)
        return self._prefixes[history]

    @cached_property
    def _words(self) -> LLTokenizer:
        return _vocabulary(self._model.chat, len(self._model.head))

    def _spell(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._spelling(token) for token in tokens)

    def _speller(self) -> Callable[[int], bytes]:
        try:
            return TokenBytes(self._model.chat.tokenizer)
        except ValueError:
            return lambda token: bytes(self._words.decode_bytes([token]))


def load(folder: Path) -> Generator:
    """Open a model folder for answering.

    Raises:
        ProviderError: the folder holds no model that can chat.
    """
    return Generator(load_model(folder, fast_precision(device()), ATTENTION))


def _batches(jobs: Sequence[PendingRequest]) -> list[list[PendingRequest]]:
    """Neighbours in length together."""
    batches: list[list[PendingRequest]] = [[]]
    for job in jobs:
        size = SHORT if job.short else LONG
        rows = sum(len(other.answers) for other in batches[-1]) + len(job.answers)
        if batches[-1] and (
            rows > size.rows or rows * len(job.rest) > size.tokens or job.short != batches[-1][0].short
        ):
            batches.append([])
        batches[-1].append(job)
    return batches


@lru_cache(maxsize=2)
def _vocabulary(chat: ChatTemplate, words: int) -> LLTokenizer:
    """The vocabulary as bytes, for grammars; seconds of work, so only when it is needed, and once."""
    return from_tokenizer(chat.tokenizer, words, chat.end_of_turn)
