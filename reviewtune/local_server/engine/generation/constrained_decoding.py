"""Constraints on an answer: free text, one of a few texts, or anything that matches a JSON schema.

Where only one token is possible it is taken without running the model. A schema with few answers, such as the enum of a
classifier, becomes a tree of their usual tokens, so an answer always has the tokens that a fine-tune was trained on.
"""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from llguidance import LLMatcher
from torch import Tensor

MAX_ANSWERS = 1000  # that are listed in a tree
CLOSERS = ('"', '"]', '"}', '"]}', '"}]'), ("]", "}", "]}", "}]")  # what ends a string, or else a list or an object
REPEATED = 64  # tokens that are the same few
LONGEST_PERIOD = 40  # tokens of what is repeated
RELAPSES = 3  # after which an answer gets no further chance


class Constraint(Protocol):
    """The state of one answer: which tokens may follow.

    Attributes:
        few: whether there are only a few tokens to choose from.
    """

    few: bool

    def forced(self) -> list[int]:
        """Advance as long as only one token is possible, and return these tokens."""

    def allowed(self) -> Tensor | None:
        """The tokens that may follow, or None for all."""

    def permits(self, token: int) -> bool:
        """Whether this token may follow; much cheaper than `allowed` if there are many."""

    def advance(self, token: int) -> None:
        """Append a token."""

    @property
    def complete(self) -> bool:
        """Whether the answer has ended and nothing may follow."""


class Free:
    """No constraint."""

    complete = False
    few = False

    def forced(self) -> list[int]:
        return []

    def allowed(self) -> Tensor | None:
        return None

    def permits(self, token: int) -> bool:
        return True

    def advance(self, token: int) -> None:
        pass


Tree = dict[int, "Tree"]


class Choice:
    """One of a few token sequences."""

    few = True

    def __init__(self, tree: Tree) -> None:
        self._node = tree

    @property
    def complete(self) -> bool:
        return not self._node

    def forced(self) -> list[int]:
        tokens: list[int] = []
        while len(self._node) == 1:
            tokens += self._node
            self.advance(tokens[-1])
        return tokens

    def allowed(self) -> Tensor | None:
        return torch.tensor(list(self._node))

    def permits(self, token: int) -> bool:
        return token in self._node

    def advance(self, token: int) -> None:
        self._node = self._node[token]


class Grammar:
    """Any text that matches a JSON schema.

    A small model may repeat the same words or list items for ever. After REPEATED tokens of that only `closers` are
    allowed, where the schema allows them: the string or list ends, and the rest of the answer follows. After RELAPSES
    everything is closed that can be.
    """

    few = False

    def __init__(self, matcher: LLMatcher, vocabulary: int, closers: Sequence[Sequence[int]]) -> None:
        self._matcher, self._vocabulary, self._closers = matcher, vocabulary, closers
        self._tokens: list[int] = []
        self._closed_at: list[int] = []  # the lengths at which the answer began to repeat itself

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        tokens: list[int] = self._matcher.compute_ff_tokens()
        self._matcher.consume_tokens(tokens)
        self._tokens += tokens
        return tokens

    def allowed(self) -> Tensor | None:
        if closing := self._closing():
            return torch.tensor(closing)
        octets = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        bits = (octets[:, None] >> torch.arange(8)) & 1
        allowed: Tensor = bits.flatten()[: self._vocabulary].nonzero()[:, 0]
        return allowed

    def permits(self, token: int) -> bool:
        closing = self._closing()
        return token in closing if closing else bool(self._matcher.validate_tokens([token]))

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._tokens.append(token)

    def _closing(self) -> list[int]:
        """While the answer repeats itself, the tokens that can end that; none if the answer may end here anyway."""
        if self._matcher.is_accepting():
            return []
        if len(self._closed_at) < RELAPSES:
            if not repeats_itself(self._tokens):
                return []
            if self._closed_at[-1:] != [len(self._tokens)]:
                self._closed_at.append(len(self._tokens))
        allowed = [[token for token in kind if self._matcher.validate_tokens([token])] for kind in self._closers]
        return next(filter(None, allowed), [])


def repeats_itself(tokens: Sequence[int]) -> bool:
    """Whether the end is the same few tokens again and again: REPEATED tokens, and at least three times."""
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(REPEATED, 3 * period)
        if len(tokens) < length or tokens[-1] != tokens[-1 - period]:  # most often, so that nothing is copied
            continue
        if tokens[period - length :] == tokens[-length:-period]:
            return True
    return False


def tree_of(sequences: Iterable[Sequence[int]]) -> Tree:
    """The prefix tree of these token sequences."""
    tree: Tree = {}
    for sequence in sequences:
        node = tree
        for token in sequence:
            node = node.setdefault(token, {})
    return tree


def answers_of(schema: Any) -> list[str] | None:  # noqa: ANN401 - a JSON schema may be anything
    """All texts that match a schema, or None if there are too many or the schema has other keywords."""
    values = _values(schema)
    return None if values is None else [json.dumps(value, ensure_ascii=False) for value in values]


def _values(schema: Any) -> list[Any] | None:  # noqa: ANN401
    match schema:
        case {"enum": [*values]} if schema.keys() <= {"enum", "type", "title", "description"}:
            return values if len(values) <= MAX_ANSWERS else None
        case {"const": value} if schema.keys() <= {"const", "type", "title", "description"}:
            return [value]
        case {"type": "boolean"}:
            return [True, False]
        case {"type": "object", "properties": {**parts}, "required": [*required], "additionalProperties": False}:
            return _objects(parts) if set(required) == set(parts) else None
    return None


def _objects(parts: dict[Any, Any]) -> list[Any] | None:
    choices = [values for part in parts.values() if (values := _values(part)) is not None]
    if len(choices) < len(parts) or math.prod(map(len, choices)) > MAX_ANSWERS:
        return None
    return [dict(zip(parts, values, strict=True)) for values in itertools.product(*choices)]
