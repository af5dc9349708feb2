"""Base of the JSON files that hold results: frozen pydantic models with a version, read and written in one way."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reviewtune.core.atomic_files import write_json
from reviewtune.errors import DataError

SHOWN = 3


class ResultPart(BaseModel):
    """A part of a result file: frozen, strict, no unknown key."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ResultFile(ResultPart):
    """A result file. One without `version` was written before that field existed; its keys are those of version 1."""

    version: Literal[1] = Field(1, description="version of the file's format")

    @field_validator("version", mode="before")
    @classmethod
    def _known(cls, version: object) -> object:
        if isinstance(version, int) and version > 1:
            raise ValueError(f"the file has version {version}, this release reads version 1; upgrade reviewtune")
        return version


ResultT = TypeVar("ResultT", bound=ResultFile)


def read_result(path: Path, kind: type[ResultT], *, if_missing: str, if_damaged: str) -> ResultT:
    """Read a result file.

    Args:
        path: the file.
        kind: its model.
        if_missing: what the user can do when the file does not exist; ends the message.
        if_damaged: what the user can do when the file is not valid; ends the message.

    Raises:
        DataError: the file does not exist, or it does not hold what the model describes.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {if_missing}") from error
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({_faults(error)}): {if_damaged}") from error


def write_result(result: ResultFile, path: Path) -> None:
    """Write a result file; its keys are in the order of the model's fields."""
    values: dict[str, Any] = result.model_dump(mode="json")
    write_json(values, path)


def _faults(error: ValidationError) -> str:
    """The first faults in one line, each with the dotted path of its key."""
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ") for fault in error.errors()]
    more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return " ".join("; ".join([*faults[:SHOWN], *more]).split())
