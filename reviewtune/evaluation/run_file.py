"""reports/arms/ARM/run.json: what differs from run to run, namely the MLflow run's id and the timings."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from reviewtune.core.result_file import ResultFile, read_result, write_result

RUN_FILE = "run.json"


class ArmRun(ResultFile):
    """One evaluation of an arm. Times are in seconds and are those of the requests, also when the cache answered.

    The file holds the fields that were set: a baseline has no requests and therefore no latencies.
    """

    mlflow_run_id: str | None = Field(None, description="id of the MLflow run")
    latency_p50: float | None = Field(None, description="median latency of a request; null: all came in batches")
    latency_p95: float | None = Field(None, description="95th percentile of the latency")
    latency_p99: float | None = Field(None, description="99th percentile of the latency")
    first_answer_seconds: float | None = Field(
        None, description="latency of the first request, during which the model may have been loaded"
    )
    reviews_per_second: float | None = Field(None, description="throughput, without the first request")
    wall_seconds: float | None = Field(None, description="time during which at least one request was running")
    retries: int | None = Field(None, description="how many requests were sent again")
    requests: int | None = Field(None, description="how many requests this run sent, retries included")
    answers_from_cache: int | None = Field(None, description="how many answers came from the cache")
    times: Literal["measured now", "recorded", "partly recorded"] | None = Field(
        None, description="whether the times are from this run or were kept with answers from the cache"
    )
    calibration_error: float | None = Field(None, description="expected calibration error of the arm's confidence")

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers, by name, as the MLflow run holds them."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "version"}
        return {name: value for name, value in fields.items() if isinstance(value, int | float)}

    @model_serializer(mode="wrap")
    def _what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name in {"version", *self.model_fields_set}}


def read_run(folder: Path) -> ArmRun:
    """Read the run of the arm in this folder.

    Raises:
        DataError: there is no run.json, or it is damaged.
    """
    return read_result(
        folder / RUN_FILE,
        ArmRun,
        if_missing=f"run `dvc repro` to evaluate arm {folder.name}",
        if_damaged="run `dvc repro --force` on its stage",
    )


def write_run(run: ArmRun, folder: Path) -> None:
    write_result(run, folder / RUN_FILE)
