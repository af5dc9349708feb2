"""Chat JSONL files: write them from reviews, check them line by line against OpenAI's rules, count their tokens.

Rules: https://platform.openai.com/docs/guides/supervised-fine-tuning (at least 10 examples, the system message first,
the assistant's last). Tokens are counted as for gpt-4o-mini (o200k_base and 3 tokens per message, as in OpenAI's
cookbook). Other models count differently, so a price is an estimate until the provider reports the usage.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reviewtune.core import text_files
from reviewtune.core.atomic_files import write_bytes, write_text
from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.data.chat.tool_calls import RESULT_ROLES, call_texts, calls_fault, results_fault, texts_of, tools_fault
from reviewtune.data.delimited_text import decoded
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.data.prompts import Line, Message, Prompt
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL
from reviewtune.data.tables import read_bytes
from reviewtune.errors import DataError

MIN_EXAMPLES = 10
MAX_TOKENS = 65_536
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
ROLES = ("system", "user", "assistant", "developer")
WEIGHTS = (None, 0, 1)
WRITE_AGAIN = "fix it, or run `dvc repro format` if the pipeline wrote the file"
TOKENS_PER_MESSAGE = 3
TOKENS_PER_EXAMPLE = 3
LONGEST_PART = 500_000  # characters whose tokens are counted at once


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
    """Read the lines of a chat JSONL file; blank lines are skipped.

    Raises:
        DataError: a line is not a JSON object with messages.
    """
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, Line]]:
    """As `read_lines`, each with its number in the file; 1 is the first."""
    lines, faults = parsed_lines(decoded(read_bytes(path), path))
    refuse_faults(path, faults, advice=WRITE_AGAIN)
    return lines


def parsed_lines(text: str) -> tuple[list[tuple[int, Line]], list[Fault]]:
    """The lines of a chat file's text with their numbers, and what is wrong with those that cannot be parsed."""
    lines, faults = [], []
    for number, content in text_files.lines(text):
        if not content.strip(text_files.JSON_SPACE):
            continue
        try:
            lines.append((number, parse_line(content)))
        except ValueError as error:
            faults.append(Fault(number, str(error), content))
    return lines, faults


def check(path: Path, prompt: Prompt | None, least: int = MIN_EXAMPLES) -> ChatFile:
    """Check a file against the rules and count its tokens.

    Args:
        path: the file.
        prompt: what the answers must parse with; without it any answer is accepted, also calls of functions.
        least: the number of examples that the file must have.

    Raises:
        DataError: with the first line that breaks a rule; or the file has fewer than `least` lines.
    """
    lines, faults = parsed_lines(decoded(read_bytes(path), path))
    faults += [fault for number, line in lines if (fault := _line_fault(number, line, prompt))]
    refuse_faults(path, sorted(faults, key=lambda fault: fault.line), advice=WRITE_AGAIN)
    if len(lines) < least:
        raise DataError(f"{path}: {counted(len(lines), 'example')}, at least {least} are needed; label more reviews")
    examples = [line for _, line in lines]
    sizes = [_tokens_of(line) for line in examples]
    return ChatFile(len(lines), sum(sizes), max(sizes), _warnings(path, examples, prompt))


def as_utf8(path: Path, folder: Path) -> Path:
    """The file to upload: the file itself or, if it has a byte order mark, a copy without it in UTF-8.

    Args:
        path: the file.
        folder: where a copy is written, under the same name.

    Raises:
        DataError: its encoding is not certain.
    """
    content = read_bytes(path)
    plain = decoded(content, path).encode("utf-8")
    if plain == content:
        return path
    copy = folder / hashlib.sha256(plain).hexdigest()[:16] / path.name
    write_bytes(plain, copy)
    return copy


def parse_line(text: str) -> Line:
    """Parse one line of a chat JSONL file; what its messages hold is not checked.

    A content of text parts becomes one text.

    Raises:
        ValueError: the line is not a JSON object with messages; says what is wrong.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:  # a RecursionError from a line of thousands of brackets
        raise ValueError(f"not valid JSON ({error})") from error
    if not isinstance(line, dict) or not isinstance(line.get("messages"), list):
        raise ValueError('not an object {"messages": [...]}')
    parsed = Line(messages=[_with_plain_text(message) for message in line["messages"]])
    for field in ("tools", "functions"):
        if line.get(field):
            parsed[field] = line[field]
    return parsed


def example_fault(messages: Sequence[Any], *, with_tools: bool = False) -> str | None:
    """The first rule of the protocol that an example breaks, whatever its task; None if it is valid.

    Args:
        messages: the example.
        with_tools: whether it may call functions.
    """
    faults = (_message_fault(message, with_tools) for message in messages)
    return next(filter(None, faults), None) or _order_fault(messages) or _size_fault(messages)


def count_tokens(messages: Sequence[Message]) -> int:
    """Tokens of one example or prompt, as gpt-4o-mini counts them."""
    return TOKENS_PER_EXAMPLE + sum(
        TOKENS_PER_MESSAGE + sum(map(_tokens_in, (message["role"], message["content"] or "", *call_texts(message))))
        for message in messages
    )


def _tokens_of(line: Line) -> int:
    """Those of an example, about: how a provider writes tools and calls is not documented."""
    return count_tokens(line["messages"]) + sum(map(_tokens_in, texts_of(line)))


@lru_cache(maxsize=1024)  # the system prompt and the labels are in every example
def _tokens_in(text: str) -> int:
    """In parts, because the library refuses texts of a million characters."""
    encode = _encoding().encode
    return sum(len(encode(text[start : start + LONGEST_PART])) for start in range(0, len(text), LONGEST_PART))


@lru_cache(maxsize=1)
def _encoding() -> Any:  # noqa: ANN401 - the library has no types
    import bpe_openai

    return bpe_openai.get_encoding("o200k_base")


def _line_fault(number: int, line: Line, prompt: Prompt | None) -> Fault | None:
    with_tools = prompt is None
    message = example_fault(line["messages"], with_tools=with_tools) or _answer_fault(line, prompt)
    message = message or (tools_fault(line) if with_tools else None)
    return Fault(number, message, _last_text(line)) if message else None


def _last_text(line: Line) -> str:
    """What the message before the answer says, so that the user recognises the line."""
    message: Any = line["messages"][-2] if len(line["messages"]) > 1 else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _with_plain_text(message: Any) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    texts = [_part_text(part) for part in message["content"]]
    return message if None in texts else {**message, "content": "".join(text or "" for text in texts)}


def _part_text(part: Any) -> str | None:  # noqa: ANN401 - any JSON value
    is_text = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    return str(part["text"]) if is_text else None


def _answer_fault(line: Line, prompt: Prompt | None) -> str | None:
    answer = line["messages"][-1]["content"]
    if prompt is None or prompt.parse(answer) is not None:
        return None
    return f"the answer {answer!r} does not name a label; labels are {', '.join(prompt.labels)}"


def _message_fault(message: Any, with_tools: bool) -> str | None:  # noqa: ANN401 - any JSON value
    roles = (*ROLES, *RESULT_ROLES) if with_tools else ROLES
    if not isinstance(message, dict) or message.get("role") not in roles:
        return f"a message's role must be one of {', '.join(roles)}"
    role, content = message["role"], message.get("content")
    article = "an" if role == "assistant" else "a"
    has_calls = bool(message.get("tool_calls") or message.get("function_call"))
    if has_calls and not with_tools:
        return f"{article} {role} message has tool calls; tool calls cannot be trained here, only texts"
    if has_calls and (fault := calls_fault(message) if role == "assistant" else "only an assistant calls functions"):
        return f"{article} {role} message: {fault}"
    if isinstance(content, list):
        return f"{article} {role} message has a part that is not text; only text can be trained here"
    if message.get("weight") not in WEIGHTS:
        return f"{article} {role} message has the weight {message['weight']!r}; it may be 0 or 1"
    if not has_calls and not (isinstance(content, str) and (normalise(content) or role in RESULT_ROLES)):
        return f"{article} {role} message has no text"
    if not isinstance(content, str | None):
        return f"{article} {role} message has a content that is not text"
    return _pair_fault(content or "", *call_texts(message))


def _pair_fault(*texts: str) -> str | None:
    is_broken = any(HALF_PAIR.search(text) for text in texts)
    return "half of a surrogate pair (\\ud800 to \\udfff alone) is not a character" if is_broken else None


def _order_fault(messages: Sequence[Message]) -> str | None:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        return f"the last message must be the assistant's, it is {roles[-1] if roles else 'missing'}"
    if all(_weight(message) == 0 for message in messages if message["role"] == "assistant"):
        return "no assistant message to learn from: every one has the weight 0"
    return results_fault(messages) if "user" in roles else "no user message"


def _weight(message: Mapping[str, Any]) -> object:
    return message.get("weight")


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
