"""models/run.json: what differs between two fine-tunes with equal inputs, namely the MLflow run's id and the time."""

import time
from pathlib import Path

from openai.types.fine_tuning import FineTuningJob
from pydantic import Field

from reviewtune.core.result_file import ResultFile, write_result

RUN = "run.json"


class FinetuneRun(ResultFile):
    """One fine-tune."""

    mlflow_run_id: str = Field(description="id of the MLflow run")
    job_seconds: int = Field(
        description="from the creation of the job to its end, time in the provider's queue included"
    )


def write_finetune_run(job: FineTuningJob, models: Path, run_id: str) -> None:
    """Write run.json into the folder `models`."""
    end = job.finished_at or int(time.time())
    seconds = max(0, end - (job.created_at or end))  # 0: the provider does not report its times
    write_result(FinetuneRun(mlflow_run_id=run_id, job_seconds=seconds), models / RUN)
