"""Answers requests with a model, many at a time; their common prefix is computed once.

An answer does not depend on the other requests of its batch, because attention uses positions, not padding. Sums of
different lengths may differ in their last bits, so this holds except for ties within rounding, which
benchmarks/engine_speed.py counts.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.chat_template import ChatTemplate, Tokens
from reviewtune.local_server.engine.generation.batching import Batcher, PrefixCache
from reviewtune.local_server.engine.generation.bounded_schemas import closed
from reviewtune.local_server.engine.generation.call_grammar import all_calls, call_grammar
from reviewtune.local_server.engine.generation.call_reader import CallReader
from reviewtune.local_server.engine.generation.constrained_decoding import (
    CLOSERS,
    Choice,
    Constraint,
    Free,
    Grammar,
    Tree,
    answers_of,
    tree_of,
)
from reviewtune.local_server.engine.generation.decoding import AnswerInProgress
from reviewtune.local_server.engine.generation.grammars import bounded_grammar
from reviewtune.local_server.engine.generation.running_rows import PendingRequest
from reviewtune.local_server.engine.generation.text_stream import TextStream
from reviewtune.local_server.engine.generation.token_bytes import TokenBytes
from reviewtune.local_server.engine.model_loading import LoadedModel, device, fast_precision, load_model
from reviewtune.local_server.engine.types import (
    ContextLengthExceeded,
    GenerationRequest,
    GenerationResult,
    Tools,
    UnknownPromptToken,
    UnknownToken,
)

PROMPT_TOKENS = 2048  # with padding, that are read at a time; fewer take hardly less time per token
LONGEST_ANSWER = 1024  # tokens, if the request has no limit: a base model may never end its answer


class Generator:
    """Answers requests with one model."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._size = len(model.head)  # of the vocabulary; known also while the weights are freed
        self._prefixes = PrefixCache()
        self._ends = frozenset({model.chat.end_of_turn, model.chat.tokenizer.eos_token_id})
        self._tree = lru_cache(16)(self._build_tree)
        self._grammar = lru_cache(16)(self._compile)  # milliseconds, in which running answers wait
        self._call_tree = lru_cache(16)(self._build_call_tree)
        self._call_grammar = lru_cache(16)(self._compile_calls)
        self._bytes_of = lru_cache(1 << 16)(self._token_bytes())

    def get_ready(self) -> None:
        """Prepare what the first answer with a grammar would wait for."""
        _ = self._vocabulary

    def forget_prefixes(self) -> None:
        """Free the keys and values of earlier prompts."""
        self._prefixes.clear()

    def batcher(self, tokens: int = PROMPT_TOKENS) -> Batcher:
        """Answers requests that come and go.

        Args:
            tokens: of prompts, with padding, that one step reads at most.
        """
        return Batcher(self._model, self._prefixes, tokens)

    @torch.inference_mode()
    def complete(self, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
        """Answer a batch; results are in the order of the requests. Errors are raised before anything is computed.

        Raises:
            ContextLengthExceeded: a prompt leaves no room for an answer.
            UnknownToken: a bias for a token, or a token of the prompt, that is not in the vocabulary.
            UnsupportedSchema: a schema that cannot be compiled.
        """
        pending = [self.prepare(request) for request in requests]
        batcher = self.batcher()
        for request in pending:
            batcher.add(request)
        while batcher.busy:
            batcher.step()
        return [request.result() for request in pending]

    def prepare(self, request: GenerationRequest) -> PendingRequest:
        """The request as a batcher takes it.

        Raises:
            ContextLengthExceeded: the prompt leaves no room for an answer.
            UnknownToken: a bias for a token, or a token of the prompt, that is not in the vocabulary.
            UnsupportedSchema: a schema that cannot be compiled.
        """
        history, rest = self._prompt(request)
        room = self._model.context - len(history) - len(rest)
        if room < 1 and (request.max_tokens != 0 or request.score_prompt):  # otherwise its tokens are only counted
            raise ContextLengthExceeded(self._model.context, len(history) + len(rest))
        if unknown := [token for token in request.logit_bias if token >= self._size]:
            raise UnknownToken(unknown[0], self._size)
        limit = min(max(0, room), LONGEST_ANSWER if request.max_tokens is None else request.max_tokens)
        pending = PendingRequest(
            request, history, rest, lambda: [self._new_answer(request, rest, limit, n) for n in range(request.n)]
        )
        if request.prompt is not None:
            pending.text = request.prompt.encode() if isinstance(request.prompt, str) else self._to_bytes(rest)
        return pending

    def _prompt(self, request: GenerationRequest) -> tuple[Tokens, Tokens]:
        """The prompt's tokens: those that other requests may share, and the rest."""
        if request.prompt is None:
            return self._model.chat.prompt(request.messages, request.tools.functions if request.tools else ())
        if isinstance(request.prompt, str):
            return (), self._model.chat.raw(request.prompt)
        if unknown := [token for token in request.prompt if token >= self._size]:
            raise UnknownPromptToken(unknown[0], self._size)
        return (), request.prompt

    def pause(self) -> None:
        """Free the weights; answers in progress can continue after `resume`."""
        self._model.network = self._model.adapter = None

    def resume(self, folder: Path, base: Path | None = None) -> None:
        """Load the weights again; the arguments are those of `load`."""
        model = load_model(folder, fast_precision(device()), ATTENTION, base)
        self._model.network, self._model.adapter = model.network, model.adapter

    def _new_answer(self, request: GenerationRequest, rest: Tokens, limit: int, choice: int) -> AnswerInProgress:
        random = torch.Generator()
        if request.seed is None:
            random.seed()
        else:
            random.manual_seed(request.seed + choice)
        constraint = self._constraint(request)
        reader = CallReader(self._model.chat.tool_format) if request.tools else None
        stream = request.listener and TextStream(request.listener, choice, request.stop, reader)
        answer = AnswerInProgress(
            request, constraint, self._ends, limit, self._to_bytes, random, list(rest), stream, reader
        )
        answer.begin()
        return answer

    def _constraint(self, request: GenerationRequest) -> Constraint:
        if request.tools is not None:
            return self._call_constraint(request.tools, None if request.schema is None else json.dumps(request.schema))
        if request.schema is None:
            return Free()
        schema = json.dumps(request.schema)
        if (tree := self._tree(schema)) is not None:
            return Choice(tree)
        return Grammar(self._grammar(schema).deep_copy(), self._size, self._closers)

    def _call_constraint(self, tools: Tools, schema: str | None) -> Constraint:
        if (tree := self._call_tree(tools)) is not None:
            return Choice(tree)
        return Grammar(self._call_grammar(tools, schema).deep_copy(), self._size, self._closers)

    def _compile_calls(self, tools: Tools, schema: str | None) -> LLMatcher:
        return call_grammar(tools, None if schema is None else json.loads(schema), self._model.chat, self._vocabulary)

    def _build_call_tree(self, tools: Tools) -> Tree | None:
        chat = self._model.chat
        calls = all_calls(tools, chat.tool_format)
        return tree_of((*chat.plain(call), chat.end_of_turn) for call in calls) if calls else None

    def _compile(self, schema: str) -> LLMatcher:
        return bounded_grammar(json.loads(schema), self._vocabulary)

    def _build_tree(self, schema: str) -> Tree | None:
        answers = answers_of(closed(json.loads(schema)))
        if answers is None:
            return None
        chat = self._model.chat
        return tree_of((*chat.plain(answer), chat.end_of_turn) for answer in answers)

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return _load_vocabulary(self._model.chat, self._size)

    @cached_property
    def _closers(self) -> list[list[int]]:
        kinds = [[self._model.chat.plain(text) for text in kind] for kind in CLOSERS]
        return [[tokens[0] for tokens in kind if len(tokens) == 1] for kind in kinds]

    def _to_bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._bytes_of(token) for token in tokens)

    def _token_bytes(self) -> Callable[[int], bytes]:
        try:
            return TokenBytes(self._model.chat.tokenizer)
        except ValueError:
            return lambda token: bytes(self._vocabulary.decode_bytes([token]))


def load(folder: Path, base: Path | None = None) -> Generator:
    """Open a model folder for answering.

    Args:
        folder: a model, or an adapter of one.
        base: the folder of the adapter's base model, if it is not where the adapter's configuration says.

    Raises:
        ProviderError: the folder does not contain a model with a chat template.
    """
    return Generator(load_model(folder, fast_precision(device()), ATTENTION, base))


@lru_cache(maxsize=2)
def _load_vocabulary(chat: ChatTemplate, size: int) -> LLTokenizer:
    """The vocabulary as bytes, for grammars. Takes seconds, so it is loaded once and only if needed."""
    return from_tokenizer(chat.tokenizer, size, chat.end_of_turn)
