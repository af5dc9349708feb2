"""Chat JSONL files: write them from reviews, check them line by line against OpenAI's rules, count their tokens.

Rules: https://platform.openai.com/docs/guides/supervised-fine-tuning (at least 10 examples, the system message first,
the assistant's last). Tokens are counted as for gpt-4o-mini (o200k_base and 3 tokens per message, as in OpenAI's
cookbook). Other models count differently, so a price is an estimate until the provider reports the usage.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reviewtune.core.atomic_files import write_text
from reviewtune.core.formatting import counted
from reviewtune.data.faults import Fault
from reviewtune.data.prompts import Line, Message, Prompt
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, decoded
from reviewtune.errors import DataError

MIN_EXAMPLES = 10
MAX_TOKENS = 65_536
ROLES = ("system", "user", "assistant", "developer", "tool")
WRITE_AGAIN = "fix it, or run `dvc repro format` if the pipeline wrote the file"
TOKENS_PER_MESSAGE = 3
TOKENS_PER_EXAMPLE = 3


class ChatFile(NamedTuple):
    """The size of a checked file, and advice that it does not follow."""

    examples: int
    tokens: int  # of one epoch
    longest: int  # tokens of the longest example
    warnings: list[str]


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), path)


def lines_of(reviews: pd.DataFrame, prompt: Prompt) -> list[Line]:
    """One training example per review; `reviews` has the columns text and label."""
    pairs = zip(reviews["text"], reviews["label"], strict=True)
    return [prompt.line(text, label) for text, label in pairs]


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a chat JSONL file; empty lines are skipped.

    Raises:
        DataError: a line is not a JSON object with messages.
    """
    return [line for _, line in _numbered_lines(path)]


def check(path: Path, prompt: Prompt | None, least: int = MIN_EXAMPLES) -> ChatFile:
    """Check a file against the rules and count its tokens.

    Args:
        path: the file.
        prompt: what the answers must parse with; without it any answer is accepted.
        least: the number of examples that the file must have.

    Raises:
        DataError: with the first line that breaks a rule; or the file has fewer than `least` lines.
    """
    lines = _numbered_lines(path)
    for number, line in lines:
        if message := example_fault(line["messages"]) or _answer_fault(line, prompt):
            raise _refusal(path, Fault(number, message))
    if len(lines) < least:
        raise DataError(f"{path}: {counted(len(lines), 'example')}, at least {least} are needed; label more reviews")
    examples = [line for _, line in lines]
    sizes = [count_tokens(line["messages"]) for line in examples]
    return ChatFile(len(lines), sum(sizes), max(sizes), _warnings(path, examples, prompt))


def parse_line(text: str) -> Line:
    """Parse one line of a chat JSONL file; what its messages hold is not checked.

    Raises:
        ValueError: the line is not a JSON object with messages; says what is wrong.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:  # a RecursionError from a line of thousands of brackets
        raise ValueError(f"not valid JSON ({error})") from error
    if not isinstance(line, dict) or not isinstance(line.get("messages"), list):
        raise ValueError('not an object {"messages": [...]}')
    return Line(messages=line["messages"])


def example_fault(messages: Sequence[Any]) -> str | None:
    """The first rule of the protocol that an example breaks, whatever its task; None if it is valid."""
    return _message_fault(messages) or _order_fault(messages) or _size_fault(messages)


def count_tokens(messages: Sequence[Message]) -> int:
    """Tokens of one example or prompt, as gpt-4o-mini counts them."""
    encode = _encoding().encode
    return TOKENS_PER_EXAMPLE + sum(
        TOKENS_PER_MESSAGE + len(encode(message["role"])) + len(encode(message["content"])) for message in messages
    )


@lru_cache(maxsize=1)
def _encoding() -> Any:  # noqa: ANN401 - the library has no types
    import bpe_openai

    return bpe_openai.get_encoding("o200k_base")


def _numbered_lines(path: Path) -> list[tuple[int, Line]]:
    lines = []
    # Split at line feeds only: splitlines() also splits at Unicode's line separators, which a review may contain.
    for number, text in enumerate(decoded(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            lines.append((number, parse_line(text)))
        except ValueError as error:
            raise _refusal(path, Fault(number, str(error))) from error
    return lines


def _refusal(path: Path, fault: Fault) -> DataError:
    return DataError(f"{path} {fault}; {WRITE_AGAIN}")


def _answer_fault(line: Line, prompt: Prompt | None) -> str | None:
    answer = line["messages"][-1]["content"]
    if prompt is None or prompt.parse(answer) is not None:
        return None
    return f"the answer {answer!r} does not name a label; labels are {', '.join(prompt.labels)}"


def _message_fault(messages: Sequence[Any]) -> str | None:
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"a message's role must be one of {', '.join(ROLES)}"
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return f"a {message['role']} message has no text"
    return None


def _order_fault(messages: Sequence[Message]) -> str | None:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        return f"the last message must be the assistant's, it is {roles[-1] if roles else 'missing'}"
    return None if "user" in roles else "no user message"


def _size_fault(messages: Sequence[Message]) -> str | None:
    size = count_tokens(messages)
    return f"{size} tokens, at most {MAX_TOKENS} are allowed" if size > MAX_TOKENS else None


def _warnings(path: Path, lines: list[Line], prompt: Prompt | None) -> list[str]:
    if "training" not in path.name:
        return []
    warnings = []
    if len(lines) < ADVISED_EXAMPLES:
        warnings.append(f"{path.name}: {counted(len(lines), 'example')}, at least {ADVISED_EXAMPLES} are advised")
    if prompt is not None:
        counts = Counter(prompt.parse(line["messages"][-1]["content"]) for line in lines)
        scarce = [f"{label} {counts[label]}" for label in prompt.labels if counts[label] < ADVISED_PER_LABEL]
        if scarce:
            warnings.append(f"{path.name}: under {ADVISED_PER_LABEL} examples of: {', '.join(scarce)}")
    return warnings
