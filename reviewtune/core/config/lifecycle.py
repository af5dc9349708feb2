"""The section `lifecycle`: when models and training end, as dated facts with their sources."""

from datetime import date as Day  # noqa: N812 - `date` is the name of a field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reviewtune.core.config.section import Section
from reviewtune.core.config.types import Text

Event = Literal["shutdown", "last_training_day", "training_restricted"]
Service = Literal["openai", "azure", "compatible"]


def _real(text: str) -> str:
    """A month or a day of the calendar."""
    Day.fromisoformat(text if len(text) > len("2026-11") else f"{text}-01")
    return text


DayOrMonth = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d(-\d\d)?$"), AfterValidator(_real)]


class LifecycleFact(Section):
    """Something that ends at a provider."""

    provider: Service = Field(description="kind of provider that the fact is about")
    models: Literal["all"] | Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        description="families, such as gpt-4o-mini, or snapshots of them; all: every model of the provider"
    )
    event: Event = Field(
        description="shutdown: the models and their fine-tunes stop answering on this date; last_training_day: on the "
        "day after it no new job is taken; training_restricted: since then only some customers can create jobs"
    )
    date: Day = Field(description="the day, such as 2027-01-14")
    not_before: bool = Field(False, description="the provider says only that it does not happen earlier")
    note: str = Field("", description="who or what is concerned, if not all")
    source: Text = Field(description="where that was read")
    retrieved: DayOrMonth = Field(description="day or month in which it was read there")


class LifecycleConfig(Section):
    """All have defaults, because params.yaml of earlier runs does not have this section."""

    warn_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        90, description="days before an end from which on commands and applications warn"
    )
    facts: dict[str, LifecycleFact] = Field({}, description="what ends, by any name")
