"""The id of an MLflow run in a run.json, which the stages write below models/ and reports/arms/."""

from pathlib import Path

from pydantic import ConfigDict, Field

from reviewtune.core.result_file import ResultFile, read_result


class RunReference(ResultFile):
    """The part that every run.json has, whichever stage wrote it; its other fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    mlflow_run_id: str | None = Field(None, description="id of the MLflow run; null: none was opened")


def read_run_id(path: Path) -> str:
    """The id of the MLflow run that wrote this run.json; empty if it names none.

    Raises:
        DataError: the file does not exist, or it is damaged.
    """
    hint = "run `dvc repro` to write it again"
    return read_result(path, RunReference, if_missing=hint, if_damaged=hint).mlflow_run_id or ""
