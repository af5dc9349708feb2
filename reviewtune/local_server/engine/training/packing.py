"""ChatTemplate JSONL files as examples to learn from, and examples packed into rows."""

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from reviewtune.errors import DataError
from reviewtune.local_server.engine.attention import PADDING, SHARED
from reviewtune.local_server.engine.chat_template import ChatTemplate, Tokens
from reviewtune.local_server.engine.types import ChatMessage

ROLES = ("system", "developer", "user", "assistant")


class Example(NamedTuple):
    tokens: Tokens
    learned: tuple[bool, ...]  # one a token


class Pack(NamedTuple):
    """Examples in rows of about equal length, each row behind one copy of the tokens that all examples begin with.

    Hardly anything is padded and a common beginning (the system message) costs once a row; `segments` keeps the
    examples of a row apart. Tensors are [rows, width] unless said.
    """

    members: list[int]
    spans: list[tuple[int, slice]]  # the row, and where in it each member's own tokens are
    tokens: Tensor
    positions: Tensor  # in the example that a token belongs to
    segments: Tensor
    predicting: Tensor  # [n] places, counted through all rows, of the tokens whose successor is to be learned
    targets: Tensor  # [n] those successors


class RowSize(NamedTuple):
    """Tokens: of a row, about, and of all rows that are computed at a time."""

    row: int
    pack: int


def read_examples(path: Path, chat: ChatTemplate, longest: int) -> list[Example]:
    """Raises: DataError: a line that cannot be learned from, with its number."""
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would cut at U+2028 inside a review too
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    examples = [_example(line, chat, longest, f"{path.name} line {number}") for number, line in numbered]
    if not examples:
        raise DataError(f"{path.name}: no examples; a line is an object with messages")
    return examples


def common_prefix(*sets: Sequence[Example]) -> int:
    """How many tokens all examples begin with; the one that the first learned token follows is each example's own."""
    begins = [example.tokens[: example.learned.index(True) - 1] for examples in sets for example in examples]
    pairs = zip(min(begins), max(begins), strict=False)  # what these two share in this order, all share
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def packs(
    examples: Sequence[Example], order: Sequence[int], prefix: int, size: RowSize, device: torch.device
) -> Iterator[Pack]:
    """These examples in rows of about equal length, and as many rows at a time as `size` allows."""
    if not order:
        return
    rows = _rows([len(example.tokens) - prefix for example in examples], order, size.row - prefix)
    widest = max(sum(len(examples[index].tokens) - prefix for index in row) for row in rows) + prefix
    together = max(1, size.pack // widest)
    for first in range(0, len(rows), together):
        yield _pack(examples, rows[first : first + together], prefix, device)


def _rows(lengths: Sequence[int], order: Sequence[int], room: int) -> list[list[int]]:
    """Longest first, each into the emptiest row (Graham's LPT rule); within a row in the given order."""
    wanted = math.ceil(sum(lengths[index] for index in order) / max(room, 1))
    rows: list[list[int]] = [[] for _ in range(min(max(wanted, 1), len(order)))]
    filled = [(0, row) for row in range(len(rows))]
    for place in sorted(range(len(order)), key=lambda place: -lengths[order[place]]):
        tokens, row = filled[0]
        rows[row].append(place)
        heapq.heapreplace(filled, (tokens + lengths[order[place]], row))
    return [[order[place] for place in sorted(row)] for row in rows]


def _pack(examples: Sequence[Example], rows: Sequence[Sequence[int]], prefix: int, device: torch.device) -> Pack:
    lines = zip(*(_line([examples[index] for index in row], prefix) for row in rows), strict=True)
    tokens, positions, segments, predicting = (
        pad_sequence(list(line), batch_first=True, padding_value=padding).to(device)
        for line, padding in zip(lines, (0, 0, PADDING, False), strict=True)
    )
    before = predicting.flatten().nonzero()[:, 0]
    spans = [span for number, row in enumerate(rows) for span in _spans(number, [examples[at] for at in row], prefix)]
    members = [index for row in rows for index in row]
    return Pack(members, spans, tokens, positions, segments, before, tokens.flatten()[before + 1])


def _line(examples: Sequence[Example], prefix: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One row: tokens, positions, segments, and whether the next token is to be learned; each [tokens]."""
    own = [example.tokens[prefix:] for example in examples]
    tokens = [*examples[0].tokens[:prefix], *chain.from_iterable(own)]
    positions = [*range(prefix), *chain.from_iterable(range(prefix, prefix + len(part)) for part in own)]
    segments = [SHARED] * prefix + [segment for segment, part in enumerate(own, SHARED + 1) for _ in part]
    predicting = [False] * prefix + [flag for one in examples for flag in (*one.learned[prefix + 1 :], False)]
    return torch.tensor(tokens), torch.tensor(positions), torch.tensor(segments), torch.tensor(predicting)


def _spans(row: int, examples: Sequence[Example], prefix: int) -> Iterator[tuple[int, slice]]:
    begin = prefix
    for example in examples:
        end = begin + len(example.tokens) - prefix
        yield row, slice(begin, end)
        begin = end


def _example(line: str, chat: ChatTemplate, longest: int, where: str) -> Example:
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
