"""What a client may send to /v1/fine_tuning/jobs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from reviewtune.local_server.schemas.strict_models import Metadata, Strict, neutral


class Hyperparameters(Strict):
    """The requested hyperparameters; `auto` is decided by the engine's recipe."""

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
    hyperparameters: Hyperparameters | None = None  # the older field, which older clients still send

    @model_validator(mode="after")
    def _not_contradictory(self) -> Self:
        if self._in_method and self.hyperparameters and self._in_method != self.hyperparameters:
            message = "it differs from those in 'method'; give them there only"
            raise PydanticCustomError("invalid_value", message, {"param": "hyperparameters"})
        return self

    @property
    def _in_method(self) -> Hyperparameters | None:
        return self.method.supervised.hyperparameters if self.method and self.method.supervised else None

    @property
    def requested_hyperparameters(self) -> Hyperparameters:
        """Those of `method`, or of the older field."""
        return self._in_method or self.hyperparameters or Hyperparameters()
