"""Reads training examples from chat JSONL files, and packs examples into rows."""

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from reviewtune.core.text_files import JSON_SPACE, read_lines
from reviewtune.errors import DataError, ProviderError
from reviewtune.local_server.engine.attention import PADDING, SHARED
from reviewtune.local_server.engine.chat_template import ChatTemplate, Tokens
from reviewtune.local_server.engine.conversation import chat_message, functions_of
from reviewtune.local_server.schemas import strict_json
from reviewtune.local_server.schemas.messages import Example as Conversation

NO_TOOLS = (
    "the chat template of this base model has no format for tools, so examples with them cannot be learned; "
    "use a base model whose template has one, or write the examples as text"
)


class Example(NamedTuple):
    """A conversation in tokens, and per token whether it is learned."""

    tokens: Tokens
    learned: tuple[bool, ...]


class Pack(NamedTuple):
    """Examples in rows of about equal length, each row behind one copy of the prefix that all examples share.

    This needs hardly any padding, and a common prefix (the system message) is computed once per row. `segments`
    separates the examples of a row. Tensors are [rows, width] unless noted.
    """

    members: list[int]
    spans: list[tuple[int, slice]]  # per member: its row, and where in it its own tokens are
    tokens: Tensor
    positions: Tensor  # within the token's example
    segments: Tensor
    predicting: Tensor  # [n] indices into the flattened rows of the tokens whose next token is learned
    targets: Tensor  # [n] these next tokens


class RowSize(NamedTuple):
    """Sizes in tokens: of a row, roughly, and of all rows that are computed at a time."""

    row: int
    pack: int


def read_examples(path: Path, chat: ChatTemplate, longest: int) -> list[Example]:
    """Read a chat JSONL file.

    Args:
        path: the file.
        chat: the model's chat template.
        longest: maximal number of tokens of an example.

    Raises:
        DataError: a line is not a training example; the message has its number.
    """
    numbered = ((number, line) for number, line in read_lines(path) if line.strip(JSON_SPACE.encode()))
    examples = [_example(line, chat, longest, f"{path.name} line {number}") for number, line in numbered]
    if not examples:
        raise DataError(f"{path.name}: no examples; each line must be a JSON object with messages")
    return examples


def common_prefix(*sets: Sequence[Example]) -> int:
    """The number of first tokens that all examples share, without the token that predicts the first learned one."""
    begins = [example.tokens[: max(example.learned.index(True) - 1, 0)] for examples in sets for example in examples]
    pairs = zip(min(begins), max(begins), strict=False)  # the prefix of the smallest and the largest is common to all
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def packs(
    examples: Sequence[Example], order: Sequence[int], prefix: int, size: RowSize, device: torch.device
) -> Iterator[Pack]:
    """Pack examples into rows of about equal length.

    Args:
        examples: all examples.
        order: the indices of those to pack, in the order in which they are trained on.
        prefix: number of tokens that all examples share.
        size: the sizes of rows and packs.
        device: where the tensors go.

    Yields:
        Packs of as many rows as `size` allows.
    """
    if not order:
        return
    rows = _rows([len(example.tokens) - prefix for example in examples], order, size.row - prefix)
    widest = max(sum(len(examples[index].tokens) - prefix for index in row) for row in rows) + prefix
    count = max(1, size.pack // widest)
    for first in range(0, len(rows), count):
        yield _pack(examples, rows[first : first + count], prefix, device)


def _rows(lengths: Sequence[int], order: Sequence[int], room: int) -> list[list[int]]:
    """Put the longest example first into the emptiest row (Graham's LPT rule); rows keep the given order."""
    count = math.ceil(sum(lengths[index] for index in order) / max(room, 1))
    rows: list[list[int]] = [[] for _ in range(min(max(count, 1), len(order)))]
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
    predicting_at = predicting.flatten().nonzero()[:, 0]
    spans = [span for number, row in enumerate(rows) for span in _spans(number, [examples[at] for at in row], prefix)]
    members = [index for row in rows for index in row]
    return Pack(members, spans, tokens, positions, segments, predicting_at, tokens.flatten()[predicting_at + 1])


def _line(examples: Sequence[Example], prefix: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One row: tokens, positions, segments, and whether the next token is learned; each [tokens]."""
    own = [example.tokens[prefix:] for example in examples]
    tokens = [*examples[0].tokens[:prefix], *chain.from_iterable(own)]
    positions = [*range(prefix), *chain.from_iterable(range(prefix, prefix + len(part)) for part in own)]
    segments = [SHARED] * prefix + [segment for segment, part in enumerate(own, SHARED + 1) for _ in part]
    predicting = [False] * prefix + [flag for example in examples for flag in (*example.learned[prefix + 1 :], False)]
    return torch.tensor(tokens), torch.tensor(positions), torch.tensor(segments), torch.tensor(predicting)


def _spans(row: int, examples: Sequence[Example], prefix: int) -> Iterator[tuple[int, slice]]:
    begin = prefix
    for example in examples:
        end = begin + len(example.tokens) - prefix
        yield row, slice(begin, end)
        begin = end


def _example(line: bytes, chat: ChatTemplate, longest: int, where: str) -> Example:
    conversation = _conversation(line, where)
    if (field := conversation.needs_tools) and not chat.tool_format.native:
        raise DataError(f"{where}: '{field}': {NO_TOOLS}")
    messages = [chat_message(message) for message in conversation.messages]
    trained = [message.is_learned for message in conversation.messages]
    try:
        tokens, learned = chat.example(messages, trained, functions_of(conversation.definitions))
    except ProviderError as error:
        raise DataError(f"{where}: {error}") from error
    if len(tokens) > longest:
        raise DataError(f"{where}: {len(tokens)} tokens, the model's context holds {longest}; shorten it")
    return Example(tokens, learned)


def _conversation(line: bytes, where: str) -> Conversation:
    try:
        conversation = Conversation.model_validate(strict_json.loads(line))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = fault.get("ctx", {}).get("field")  # our own check of a message names the field in it
        place = ".".join(map(str, [*fault["loc"], *([field] if field else [])]))
        raise DataError(f"{where}: {place}: {fault['msg']}") from error
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error})") from error
    if reason := conversation.nothing_to_learn:
        raise DataError(f"{where}: {reason}")
    return conversation
