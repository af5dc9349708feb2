"""What clients may send, as strict types: an unknown parameter is refused by name, never ignored.

A parameter of OpenAI's that this provider lacks is listed all the same: it is accepted where it changes nothing
(`store: false`) and refused by name where it would (`unsupported_parameter`).
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def neutral(*allowed: object) -> AfterValidator:
    """Of a parameter that is not supported, only the values that change nothing."""

    def check(value: object) -> object:
        if value is None or value in allowed:
            return value
        raise PydanticCustomError("unsupported_parameter", "not supported by the local provider")

    return AfterValidator(check)


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
