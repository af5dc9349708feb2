"""The id of an MLflow run in a result file: a run.json of the stages, or a report of `reviewtune rebase`."""

from pathlib import Path

from pydantic import AliasChoices, ConfigDict, Field

from reviewtune.core.result_file import ResultFile, read_result


class RunReference(ResultFile):
    """The part that all these files have, whichever command wrote them; other fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    mlflow_run_id: str | None = Field(
        None,
        validation_alias=AliasChoices("mlflow_run_id", "run_id"),
        description="id of the MLflow run; null: none was opened",
    )


def read_run_id(path: Path, hint: str = "run `dvc repro` to write it again") -> str:
    """The id of the MLflow run that wrote this file; empty if it names none.

    Args:
        path: the file.
        hint: what writes it again.

    Raises:
        DataError: the file does not exist, or it is damaged.
    """
    return read_result(path, RunReference, if_missing=hint, if_damaged=hint).mlflow_run_id or ""
