"""Chat JSONL files: written from reviews, checked line by line against OpenAI's rules, counted and priced.

Rules: https://platform.openai.com/docs/guides/supervised-fine-tuning (at least 10 examples, system first, the last
message the assistant's). Tokens are counted as gpt-4o-mini does (o200k_base and 3 tokens a message, as in OpenAI's
own cookbook); other models count differently, so a price is an estimate, a provider's usage the truth.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reviewtune.core.atomic_files import write_text
from reviewtune.data.prompts import Line, Message, Prompt
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, decoded
from reviewtune.errors import DataError

MIN_EXAMPLES = 10
MAX_TOKENS = 65_536
ROLES = ("system", "user", "assistant", "developer", "tool")
MEND = "mend it, or write the pipeline's files anew with `dvc repro format`"
TOKENS_PER_MESSAGE = 3
TOKENS_PER_EXAMPLE = 3


class ChatFile(NamedTuple):
    """What a check of a file found: its size and what is advised, not demanded."""

    examples: int
    tokens: int  # of one epoch
    longest: int  # tokens of the longest example
    warnings: list[str]


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), path)


def lines_of(reviews: pd.DataFrame, prompt: Prompt) -> list[Line]:
    pairs = zip(reviews["text"], reviews["label"], strict=True)
    return [prompt.line(text, label) for text, label in pairs]


def read_lines(path: Path) -> list[Line]:
    """Lines of a chat JSONL file.

    Raises:
        DataError: a line that is no JSON object with messages; with its number.
    """
    lines: list[Line] = []
    # By line feeds alone: splitlines() would also cut at the line separators of Unicode that a review may hold.
    for number, text in enumerate(decoded(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:  # besides broken JSON: endless digits, endless brackets
            raise DataError(f"{path} line {number}: no JSON ({error}); mend it, or run `dvc repro format`") from error
        if not isinstance(line, dict) or not isinstance(line.get("messages"), list):
            raise DataError(
                f'{path} line {number}: wants an object {{"messages": [...]}}; mend it, or run `dvc repro format`'
            )
        lines.append(Line(messages=line["messages"]))
    return lines


def check(path: Path, prompt: Prompt | None, least: int = MIN_EXAMPLES) -> ChatFile:
    """Check a file against the rules and count its tokens; without a prompt an answer may be anything.

    Raises:
        DataError: the first line that breaks a rule, or fewer than `least` lines.
    """
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        if fault := _fault(line["messages"], prompt):
            raise DataError(f"{path} line {number}: {fault}")
    if len(lines) < least:
        raise DataError(f"{path}: {len(lines)} example(s), at least {least} are needed; label more reviews")
    sizes = [count_tokens(line["messages"]) for line in lines]
    return ChatFile(len(lines), sum(sizes), max(sizes), _warnings(path, lines, prompt))


def count_tokens(messages: Sequence[Message]) -> int:
    encode = _encoding().encode
    return TOKENS_PER_EXAMPLE + sum(
        TOKENS_PER_MESSAGE + len(encode(message["role"])) + len(encode(message["content"])) for message in messages
    )


@lru_cache(maxsize=1)
def _encoding() -> Any:  # noqa: ANN401 - the library ships no types
    import bpe_openai

    return bpe_openai.get_encoding("o200k_base")


def _fault(messages: list[Message], prompt: Prompt | None) -> str | None:
    if found := form_fault(messages):
        return found
    if prompt is not None and prompt.parse(messages[-1]["content"]) is None:
        return f"the answer {messages[-1]['content']!r} names no label of {', '.join(prompt.labels)}"
    return None


def form_fault(messages: Sequence[Any]) -> str | None:
    """The rule of the protocol that an example breaks, whatever its task; None for a good one."""
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"a message's role must be one of {', '.join(ROLES)}"
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return f"a {message['role']} message has no text"
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        return f"the last message must be the assistant's, it is {roles[-1] if roles else 'missing'}"
    if "user" not in roles:
        return "no user message"
    if (size := count_tokens(messages)) > MAX_TOKENS:
        return f"{size} tokens, at most {MAX_TOKENS} are allowed"
    return None


def _warnings(path: Path, lines: list[Line], prompt: Prompt | None) -> list[str]:
    warnings = []
    if len(lines) < ADVISED_EXAMPLES and "training" in path.name:
        warnings.append(f"{path.name}: {len(lines)} examples, at least {ADVISED_EXAMPLES} are advised")
    if prompt is not None and "training" in path.name:
        counts = Counter(prompt.parse(line["messages"][-1]["content"]) for line in lines)
        scarce = [f"{label} {counts[label]}" for label in prompt.labels if counts[label] < ADVISED_PER_LABEL]
        if scarce:
            warnings.append(f"{path.name}: under {ADVISED_PER_LABEL} examples of: {', '.join(scarce)}")
    return warnings
