"""The checkpoints that a provider kept of a fine-tuning job."""

import openai
from openai.types.fine_tuning import FineTuningJob
from pydantic import Field

from reviewtune.core.result_file import ResultPart
from reviewtune.providers.responses.provider_errors import part_of_protocol


class Checkpoint(ResultPart):
    """The model as it was at the end of an epoch."""

    step: int = Field(description="the last training step of the epoch")
    model: str = Field(description="name under which the provider serves this model")
    valid_loss: float | None = Field(None, description="loss on the whole validation file; null: not measured")


def kept_checkpoints(client: openai.OpenAI, job: FineTuningJob) -> tuple[Checkpoint, ...]:
    """The job's checkpoints that can be used as models, in order of step; none at a provider without checkpoints."""
    checkpoints = []
    with part_of_protocol("/checkpoints"):
        for item in client.fine_tuning.jobs.checkpoints.list(job.id):
            model, loss = item.fine_tuned_model_checkpoint, item.metrics.full_valid_loss
            if item.step_number > 0:  # otherwise nobody knows of which epoch it is
                checkpoints.append(Checkpoint(step=item.step_number, model=model, valid_loss=loss))
    return tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.step))
