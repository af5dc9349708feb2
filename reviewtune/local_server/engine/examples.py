"""Chat JSONL files as examples to learn from, and examples packed into rows."""

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reviewtune.errors import DataError
from reviewtune.local_server.engine.attention import SHARED
from reviewtune.local_server.engine.chat import Chat, Tokens
from reviewtune.local_server.engine.types import ChatMessage

ROLES = ("system", "developer", "user", "assistant")


class Example(NamedTuple):
    tokens: Tokens
    learned: tuple[bool, ...]  # one a token


class Pack(NamedTuple):
    """Examples in one row, behind one copy of the tokens that all examples begin with.

    Nothing is padded and a common beginning (the system message) costs once; `segments` keeps the examples apart.
    """

    members: list[int]
    spans: list[slice]  # where each member's own tokens are
    tokens: Tensor
    positions: Tensor  # in the example that a token belongs to
    segments: Tensor
    predicting: Tensor  # indices of the tokens whose successor is to be learned
    targets: Tensor  # those successors


def read_examples(path: Path, chat: Chat, longest: int) -> list[Example]:
    """Raises: DataError: a line that cannot be learned from, with its number."""
    lines = path.read_text(encoding="utf-8").splitlines()
    examples = [_example(line, chat, longest, f"{path.name} line {number}") for number, line in enumerate(lines, 1)]
    if not examples:
        raise DataError(f"{path.name}: no examples; a line is an object with messages")
    return examples


def common_prefix(*sets: Sequence[Example]) -> int:
    """How many tokens all examples begin with; the one that the first learned token follows is each example's own."""
    begins = [example.tokens[: example.learned.index(True) - 1] for examples in sets for example in examples]
    pairs = zip(min(begins), max(begins), strict=False)  # what these two share in this order, all share
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def packs(
    examples: Sequence[Example], order: Sequence[int], prefix: int, longest: int, device: torch.device
) -> Iterator[Pack]:
    """These examples in as few rows of up to `longest` tokens as fit one after the other; at least one a row."""
    together: list[int] = []
    room = longest - prefix
    for index in order:
        own = len(examples[index].tokens) - prefix
        if together and own > room:
            yield _pack(examples, together, prefix, device)
            together, room = [], longest - prefix
        together.append(index)
        room -= own
    if together:
        yield _pack(examples, together, prefix, device)


def _pack(examples: Sequence[Example], members: list[int], prefix: int, device: torch.device) -> Pack:
    tokens = list(examples[members[0]].tokens[:prefix])
    positions, segments, spans = list(range(prefix)), [SHARED] * prefix, []
    predicting: list[int] = []
    for segment, index in enumerate(members, start=SHARED + 1):
        example, begin = examples[index], len(tokens)
        tokens += example.tokens[prefix:]
        positions += range(prefix, len(example.tokens))
        segments += [segment] * (len(tokens) - begin)
        spans.append(slice(begin, len(tokens)))
        predicting += [begin + at for at, learned in enumerate(example.learned[prefix + 1 :]) if learned]
    row = torch.tensor(tokens)
    before = torch.tensor(predicting)
    parts = (row, torch.tensor(positions), torch.tensor(segments), before, row[before + 1])
    return Pack(members, spans, *(part.to(device) for part in parts))


def _example(line: str, chat: Chat, longest: int, where: str) -> Example:
    messages, trained = _messages(line, where)
    if not any(trained):
        raise DataError(f"{where}: no assistant message to learn from; add one, or drop its weight of 0")
    tokens, learned = chat.example(messages, trained)
    if len(tokens) > longest:
        raise DataError(f"{where}: {len(tokens)} tokens, the model's context holds {longest}; shorten it")
    return Example(tokens, learned)


def _messages(line: str, where: str) -> tuple[list[ChatMessage], list[bool]]:
    try:
        found = json.loads(line)["messages"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{where}: wants a JSON object {{"messages": [...]}}') from error
    if not isinstance(found, list) or not found:
        raise DataError(f"{where}: messages must be a list with at least one message")
    messages = [_message(message, where) for message in found]
    return messages, [message["role"] == "assistant" and message.get("weight", 1) != 0 for message in found]


def _message(message: Any, where: str) -> ChatMessage:  # noqa: ANN401 - anything may stand in a file
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise DataError(f"{where}: a message needs a role of {', '.join(ROLES)}")
    if not isinstance(message.get("content"), str):
        raise DataError(f"{where}: the content of the {message['role']} message must be text")
    return ChatMessage(message["role"], message["content"])
