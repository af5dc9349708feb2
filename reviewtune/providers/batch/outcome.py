"""Read the result files of a batch: its answers, and the lines that have none."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from reviewtune.core.text_files import read_lines
from reviewtune.providers.completion import Answer, timed, unreadable
from reviewtune.providers.responses.completion_body import read_completion
from reviewtune.providers.responses.http_client import MOST_BYTES
from reviewtune.providers.responses.json_text import UnreadableError, read_json
from reviewtune.providers.responses.rejections import fault_of, refused_line
from reviewtune.providers.responses.server_words import words_of
from reviewtune.providers.retry_policy import may_pass

Line = dict[str, Any]


class Outcome(NamedTuple):
    """The result of a batch; a question that is in neither is asked again.

    Args:
        answers: by the question's key.
        unreadable: the place of an answer that the provider refuses or sends in a form that cannot be read, by key.
        garbled: the keys of those that cannot be read; they may have been paid.
    """

    answers: dict[str, Answer]
    unreadable: dict[str, Answer]
    garbled: set[str]


def read_outcome(lines: Iterable[Line], *, began: float, ended: float) -> Outcome:
    """The result of a batch.

    Args:
        lines: of the output file and of the error file, in any order.
        began: Unix seconds, for all answers.
        ended: Unix seconds, for all answers.
    """
    outcome = Outcome({}, {}, set())
    for line in lines:
        key = str(line.get("custom_id")).partition("-")[2]
        answer = _answer(line)
        if answer is not None:
            place = outcome.unreadable if answer.unreadable else outcome.answers
            place[key] = timed(answer, began=began, ended=ended, mode="batch")
            if answer.unreadable and _has_answer(line):
                outcome.garbled.add(key)
    return outcome


def lines_of(path: Path) -> Iterable[Line]:
    """The lines of a result file. One that is not a JSON object is left out: nobody knows whose answer it is."""
    for _, content in read_lines(path, longest=MOST_BYTES):
        try:
            line = read_json(content)
        except UnreadableError:
            continue
        if isinstance(line, dict):
            yield line


def _answer(line: Line) -> Answer | None:
    """The answer in a line, or the reason why it has none; None if another attempt may help."""
    if _has_answer(line):
        return _completion(line)
    status, fault = fault_of(line)
    if refused := refused_line(line):
        return refused
    if status == 0 or may_pass(status):  # 0: the line has no status
        return None
    return unreadable(f"line {_number(line)}: HTTP {status}: {words_of(fault) or 'no reason was given'}")


def _has_answer(line: Line) -> bool:
    """Whether the provider says that it answered."""
    status, _ = fault_of(line)
    return 200 <= status < 300 or (status == 0 and isinstance(line.get("response"), dict))


def _completion(line: Line) -> Answer:
    body = line["response"].get("body")
    try:
        return read_completion(body if isinstance(body, dict) else {})
    except UnreadableError as error:
        return unreadable(f"line {_number(line)}: the server sent {error}")


def _number(line: Line) -> str:
    return str(line.get("custom_id")).partition("-")[0]
