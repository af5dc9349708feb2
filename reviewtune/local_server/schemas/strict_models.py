"""The base of all request models: strict types, and unknown parameters are refused by name, never ignored.

The models also list parameters of OpenAI's that this provider does not support. Values that change nothing here
(`tools: []`) are accepted; other values are refused by name (`unsupported_parameter`).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def neutral(*allowed: object, instead: str = "") -> AfterValidator:
    """For a parameter that is not supported: accept null and these values, which change nothing.

    Args:
        allowed: the values, in addition to null.
        instead: what a client can do instead; added to the error.
    """
    advice = f"; {instead}" if instead else ""

    def check(value: object) -> object:
        if value is None or value in allowed:
            return value
        raise PydanticCustomError(
            "unsupported_parameter", "not supported by the local provider{advice}", {"advice": advice}
        )

    return AfterValidator(check)


Verbosity = Literal["low", "medium", "high"]
"""How long answers should be; the models here have no such setting, so it changes nothing."""
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
