"""Checks whether a chat file can be trained on, line by line, so a file of any size needs the memory of one line."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from reviewtune.local_server.files.service import numbered_lines
from reviewtune.local_server.protocol.api_errors import from_validation
from reviewtune.local_server.schemas import strict_json
from reviewtune.local_server.schemas.messages import Example, fault_of_results

MIN_EXAMPLES = 10  # of a training file


class FileFault(NamedTuple):
    """A job's `error`."""

    code: str
    message: str
    param: str

    def as_error(self) -> dict[str, Any]:
        """Its JSON."""
        return self._asdict()


def check(training: Path, validation: Path | None) -> FileFault | None:
    """The first fault of a job's files, or None."""
    fault = _check_file(training, "training_file", MIN_EXAMPLES)
    return fault or (_check_file(validation, "validation_file", 1) if validation else None)


def _check_file(path: Path, param: str, minimum: int) -> FileFault | None:
    name = param.replace("_", " ").capitalize()
    count = 0
    for number, line in numbered_lines(path):
        if fault := _check_line(line):
            return FileFault("invalid_file_format", f"{name}, line {number}: {fault}", param)
        count += 1
    if count < minimum:
        message = f"{name} has {count} example(s), but must have at least {minimum} examples"
        return FileFault("invalid_n_examples", message, param)
    return None


def _check_line(line: bytes) -> str | None:
    try:
        content = strict_json.loads(line)
    except ValueError:
        return "it is not valid JSON."
    try:
        example = Example.model_validate(content)
    except ValidationError as error:
        return from_validation(error, content).message
    if (fault := fault_of_results(example.messages, may_end_with_calls=True)) is not None:
        return f"{fault.param}: {fault.reason}"
    reason = example.nothing_to_learn
    return reason and f"{reason}."
