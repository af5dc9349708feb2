"""The sections `prompt` and `training`: what the fine-tuned model is trained with."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from reviewtune.core.config.section import Section
from reviewtune.core.config.types import Auto, Seed, Text


class PromptConfig(Section):
    """Templates: `{text}` in user is the review; in system, `{labels}` is the list of labels with their meanings and
    `{answer}` the form of the answer."""

    name: Text = Field(description="name of the prompt in reports and runs")
    system: Text = Field(
        description="system message; {labels} and {answer} are replaced by the labels and the form of an answer"
    )
    user: Annotated[str, StringConstraints(pattern=r"\{text\}")] = Field(
        description="user message; {text} is replaced by the review"
    )
    answer: Literal["json", "label"] = Field(description='form of an answer: {"label": "..."} or the bare label')


class TrainingConfig(Section):
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = Field(
        description="passes over the training reviews; auto: let the provider choose"
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = Field(
        description="reviews per training step; auto: let the provider choose"
    )
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = Field(
        description="factor on the provider's default learning rate"
    )
    seed: Seed = Field(description="seed of the order of the reviews")
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        description="part of the fine-tuned model's name"
    )
