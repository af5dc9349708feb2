"""What a client may send to /v1/fine_tuning/jobs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from reviewtune.local_server.protocol.request_models import Metadata, Strict, neutral


class Hyperparameters(Strict):
    """What was asked for; `auto` is left to the engine's recipe."""

    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"


class Supervised(Strict):
    hyperparameters: Hyperparameters | None = None


class Method(Strict):
    type: Literal["supervised"]
    supervised: Supervised | None = None
    dpo: Annotated[Any, neutral()] = None
    reinforcement: Annotated[Any, neutral()] = None


class JobRequest(Strict):
    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[Any, neutral([])] = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None  # the older place, still sent by older clients

    @model_validator(mode="after")
    def _say_it_once(self) -> Self:
        if self._newer and self.hyperparameters and self._newer != self.hyperparameters:
            message = "it differs from those in 'method'; give them there only"
            raise PydanticCustomError("invalid_value", message, {"param": "hyperparameters"})
        return self

    @property
    def _newer(self) -> Hyperparameters | None:
        return self.method.supervised.hyperparameters if self.method and self.method.supervised else None

    @property
    def asked(self) -> Hyperparameters:
        return self._newer or self.hyperparameters or Hyperparameters()


class TrainingMessage(Strict):
    role: Literal["developer", "system", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | None = None


class Example(Strict):
    messages: Annotated[list[TrainingMessage], Field(min_length=1)]

    @property
    def teaches(self) -> bool:
        """Is there an assistant's turn to learn from?"""
        return any(message.role == "assistant" and message.weight != 0 for message in self.messages)
