"""The lines of a batch's files: checking the input, preparing requests, and writing results."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from reviewtune.local_server.batches.questions import QUESTIONS, Question, standard_url
from reviewtune.local_server.batches.requests import BatchLine
from reviewtune.local_server.engine.generation.compile_trial import try_to_compile
from reviewtune.local_server.engine.types import GenerationResult, UnsupportedSchema
from reviewtune.local_server.files.service import numbered_lines
from reviewtune.local_server.protocol.api_errors import ApiError, from_validation
from reviewtune.local_server.schemas import strict_json
from reviewtune.local_server.storage import content_ids

MAX_BYTES = 200 * 2**20
MAX_REQUESTS = 50_000
SHOWN_FAULTS = 100


class InputCheck(NamedTuple):
    """The result of checking an input file.

    Attributes:
        total: the number of requests.
        model: the model of all requests.
        errors: what is wrong, at most SHOWN_FAULTS entries.
    """

    total: int
    model: str | None
    errors: list[dict[str, Any]]


def check(path: Path, endpoint: str) -> InputCheck:
    """Find what makes the whole file unusable; a body that the endpoint would refuse only fails its own line later."""
    if path.stat().st_size > MAX_BYTES:
        return InputCheck(0, None, [_error("file_too_large", f"The file is larger than {MAX_BYTES // 2**20} MB.")])
    seen: set[str] = set()
    model: str | None = None
    errors: list[dict[str, Any]] = []
    for number, line in numbered_lines(path):
        parsed = _parse(line, number)
        if isinstance(parsed, BatchLine):
            model = model or str(parsed.body.get("model"))
            fault = _fault(parsed, number, endpoint, model, seen)
            seen.add(parsed.custom_id)
        else:
            fault = parsed
        errors += [fault] if fault else []
        if len(errors) == SHOWN_FAULTS or len(seen) > MAX_REQUESTS:
            break
    if len(seen) > MAX_REQUESTS:
        errors.append(_error("too_many_requests", f"The file has more than {MAX_REQUESTS} requests."))
    if not seen and not errors:
        errors.append(_error("empty_file", "The file has no requests."))
    return InputCheck(len(seen), model, errors)


def _parse(line: bytes, number: int) -> BatchLine | dict[str, Any]:
    try:
        content = strict_json.loads(line)
    except ValueError:
        return _error("invalid_json_line", "This line is not parseable as valid JSON.", line=number)
    try:
        return BatchLine.model_validate(content)
    except ValidationError as error:
        api_error = from_validation(error, content)
        return _error(api_error.code or "invalid_request", api_error.message, api_error.param, number)


def _fault(line: BatchLine, number: int, endpoint: str, model: str, seen: set[str]) -> dict[str, Any] | None:
    if standard_url(line.url) != standard_url(endpoint):
        message = f"The URL '{line.url}' is not the batch's endpoint '{endpoint}'."
        return _error("mismatched_endpoint", message, "url", number)
    if line.custom_id in seen:
        message = f"The custom_id '{line.custom_id}' is used more than once."
        return _error("duplicate_custom_id", message, "custom_id", number)
    if str(line.body.get("model")) != model:
        message = f"All requests of a batch must be for one model; this one is not for '{model}'."
        return _error("mismatched_model", message, "body.model", number)
    return None


def _error(code: str, message: str, param: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}


class PreparedLine(NamedTuple):
    """One line: ready for the engine (`question`), or with the error response it gets instead."""

    custom_id: str
    question: Question | None
    error: ApiError | None


def read_requests(path: Path, done: Container[str]) -> Iterator[PreparedLine]:
    """The requests of a checked file that have no answer yet."""
    requests = (_read_request(line) for _, line in numbered_lines(path))
    return (request for request in requests if request.custom_id not in done)


def _read_request(line: bytes) -> PreparedLine:
    entry = BatchLine.model_validate(strict_json.loads(line))  # as in `_parse`: other parsers have other limits
    try:
        question = QUESTIONS[standard_url(entry.url)](entry.body)
    except ValidationError as error:
        return PreparedLine(entry.custom_id, None, from_validation(error, entry.body))
    except ApiError as error:
        return PreparedLine(entry.custom_id, None, error)
    except RecursionError:
        return PreparedLine(entry.custom_id, None, ApiError(400, "The body is nested too deeply.", param="body"))
    try:
        for request in question.requests:
            try_to_compile(request)
    except UnsupportedSchema as error:
        return PreparedLine(entry.custom_id, None, question.error(error))
    return PreparedLine(entry.custom_id, question, None)


class ResultLines(NamedTuple):
    """Lines of the output file and of the error file."""

    output: list[dict[str, Any]]
    errors: list[dict[str, Any]]


Answers = Sequence[GenerationResult] | Exception  # to the requests of one line


def result_lines(batch_id: str, lines: Sequence[PreparedLine], answers: Sequence[Answers]) -> ResultLines:
    """The lines for these answers.

    Args:
        batch_id: the batch's id.
        lines: the input lines.
        answers: one entry per line that has a question, in the same order.
    """
    output, errors = [], []
    remaining = iter(answers)
    for line in lines:
        error = line.error
        if line.question is not None:
            answer = next(remaining)
            if not isinstance(answer, Exception):
                output.append(_line(batch_id, line.custom_id, 200, line.question.body(answer)))
                continue
            error = line.question.error(answer)
        assert error is not None
        errors.append(_line(batch_id, line.custom_id, error.status_code, error.body))
    return ResultLines(output, errors)


def expired_lines(batch_id: str, lines: Sequence[PreparedLine]) -> ResultLines:
    """The lines for requests that were not answered in time."""
    message = "This request could not be executed before the completion window expired."
    error = {"code": "batch_expired", "message": message}
    return ResultLines(
        [], [_line(batch_id, line.custom_id, 0, {}) | {"response": None, "error": error} for line in lines]
    )


def _line(batch_id: str, custom_id: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    name = content_ids.digest(batch_id, custom_id)[:32]
    response = {"status_code": status, "request_id": f"req_{name}", "body": body}
    return {"id": f"batch_req_{name}", "custom_id": custom_id, "response": response, "error": None}
