"""What all sections of the configuration share."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

LabelScoring = Literal["none", "raw", "corrected", "auto"]


class Section(BaseModel):
    """A section of the configuration: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)
