"""Read the two result files of a batch: its answers, and the lines that the provider refused."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import ValidationError

from reviewtune.providers.completion import Answer, read_completion, timed
from reviewtune.providers.rejections import refused_line


class Outcome(NamedTuple):
    """The result of a batch.

    Args:
        answers: by the question's key.
        refused: the provider's reason for a line that fails however often it is sent; None if there is no such line.
    """

    answers: dict[str, Answer]
    refused: str | None


def read_outcome(
    output: Iterable[dict[str, Any]], errors: Iterable[dict[str, Any]], *, began: float, ended: float
) -> Outcome:
    """The result of a batch.

    Args:
        output: lines of the output file.
        errors: lines of the error file.
        began: Unix seconds, for all answers.
        ended: Unix seconds, for all answers.
    """
    answers: dict[str, Answer] = {}
    refused = None
    for line in output:
        try:
            answer = read_completion(line["response"]["body"])
        except (ValidationError, KeyError, TypeError):
            continue  # not a chat completion: the question is asked again
        answers[_key(line)] = timed(answer, began=began, ended=ended, mode="batch")
    for line in errors:
        if unanswered := refused_line(line):
            answers[_key(line)] = timed(unanswered, began=began, ended=ended, mode="batch")
        else:
            refused = refused or _refusal(line)
    return Outcome(answers, refused)


def _key(line: dict[str, Any]) -> str:
    return str(line["custom_id"]).partition("-")[2]


def _refusal(line: dict[str, Any]) -> str | None:
    """The reason why a line is wrong in itself; None if another attempt may help."""
    response = line.get("response") or {}
    status = int(response.get("status_code") or 0)
    if not 400 <= status < 500 or status in (408, 409, 429):
        return None
    message = ((response.get("body") or {}).get("error") or {}).get("message", "no reason was given")
    return f"line {line['custom_id'].partition('-')[0]}: HTTP {status}: {' '.join(str(message).split())}"
