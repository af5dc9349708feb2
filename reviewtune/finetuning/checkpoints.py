"""The checkpoints that a provider kept of a fine-tuning job."""

import openai
from openai.types.fine_tuning import FineTuningJob
from pydantic import Field

from reviewtune.core.result_file import ResultPart


class Checkpoint(ResultPart):
    """The model as it was at the end of an epoch."""

    step: int = Field(description="the last training step of the epoch")
    model: str = Field(description="name under which the provider serves this model")
    valid_loss: float | None = Field(None, description="loss on the whole validation file; null: not measured")


def kept_checkpoints(client: openai.OpenAI, job: FineTuningJob) -> tuple[Checkpoint, ...]:
    """The job's checkpoints that can be used as models, in order of step."""
    checkpoints = [
        Checkpoint(
            step=item.step_number, model=item.fine_tuned_model_checkpoint, valid_loss=item.metrics.full_valid_loss
        )
        for item in client.fine_tuning.jobs.checkpoints.list(job.id)
    ]
    return tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.step))
