"""What an answer may look like: free text, one of a few texts, or anything that matches a JSON schema.

Where only one token is possible it is put down without asking the model. A schema with few answers (enums, as a
classifier's) is a tree of their usual tokens, so an answer is always spelt as a fine-tune was taught to spell it.
"""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from reviewtune.local_server.engine.types import UnsupportedSchema

MAX_ANSWERS = 1000  # of a tree
LIKE_PYTHON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # json.dumps


class Constraint(Protocol):
    """One answer's path. `advance` takes what was chosen, `forced` goes on by itself where there is no choice."""

    few: bool  # tokens to choose from

    def forced(self) -> list[int]: ...

    def allowed(self) -> Tensor | None:
        """Tokens to choose from; None: all."""

    def permits(self, token: int) -> bool:
        """Whether it is among them: far cheaper to ask than all of them, where they are many."""

    def advance(self, token: int) -> None: ...

    @property
    def complete(self) -> bool:
        """The answer is whole, whatever the model would say next."""


class Free:
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
        self._at = tree

    @property
    def complete(self) -> bool:
        return not self._at

    def forced(self) -> list[int]:
        tokens: list[int] = []
        while len(self._at) == 1:
            tokens += self._at
            self.advance(tokens[-1])
        return tokens

    def allowed(self) -> Tensor | None:
        return torch.tensor(list(self._at))

    def permits(self, token: int) -> bool:
        return token in self._at

    def advance(self, token: int) -> None:
        self._at = self._at[token]


class Grammar:
    """Whatever matches a JSON schema."""

    few = False

    def __init__(self, matcher: LLMatcher, words: int) -> None:
        self._matcher, self._words = matcher, words

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        tokens: list[int] = self._matcher.compute_ff_tokens()
        self._matcher.consume_tokens(tokens)
        return tokens

    def allowed(self) -> Tensor | None:
        octets = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        bits = (octets[:, None] >> torch.arange(8)) & 1
        allowed: Tensor = bits.flatten()[: self._words].nonzero()[:, 0]
        return allowed

    def permits(self, token: int) -> bool:
        return bool(self._matcher.validate_tokens([token]))

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)


def tree_of(sequences: Iterable[Sequence[int]]) -> Tree:
    tree: Tree = {}
    for sequence in sequences:
        at = tree
        for token in sequence:
            at = at.setdefault(token, {})
    return tree


def answers_of(schema: Any) -> list[str] | None:  # noqa: ANN401 - a JSON schema may be anything
    """All texts that match, if they are few and the schema says so plainly; else None."""
    values = _values(schema)
    return None if values is None else [json.dumps(value, ensure_ascii=False) for value in values]


def _values(schema: Any) -> list[Any] | None:  # noqa: ANN401
    match schema:
        case {"enum": [*values]} if schema.keys() <= {"enum", "type", "title", "description"}:
            return values
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


def grammar_of(schema: dict[str, Any], tokenizer: LLTokenizer) -> LLMatcher:
    """Raises: UnsupportedSchema: with the reason."""
    try:
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema, defaults=LIKE_PYTHON))
    except ValueError as error:
        raise UnsupportedSchema(str(error)) from error
    if matcher.is_error():
        raise UnsupportedSchema(matcher.get_error())
    return matcher
