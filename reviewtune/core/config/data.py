"""The sections `data` and `split`: where the labelled reviews are, what they look like, and how they are split."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from reviewtune.core.config.section import Section
from reviewtune.core.config.types import ColumnName, Labels, Seed, Share, Text, free_slices


class ColumnsConfig(Section):
    """Names of the columns in the table; all but `text` and `label` may be null."""

    text: ColumnName = Field(description="column with the review")
    label: ColumnName = Field(description="column with its label")
    id: ColumnName | None = Field(description="column with a unique id of each review; null: use its line number")
    second_label: ColumnName | None = Field(description="column with a second annotator's label; null: none")
    # It has a default, unlike the others, because params.yaml of earlier runs does not have it.
    split: ColumnName | None = Field(
        None, description="column with train, validation or test for reviews whose side is given; null: none"
    )


Conflicts = Literal["refuse", "majority", "drop"]


class DataConfig(Section):
    name: Text = Field(description="name of the data set in reports and runs")
    path: Path = Field(description="CSV or .xlsx with the labelled reviews, relative to the project")
    language: Text = Field(description="language of the reviews as ISO 639-1 code, such as en")
    columns: ColumnsConfig = Field(description="names of the table's columns")
    slices: tuple[ColumnName, ...] = Field(
        description="columns whose values are scored separately; not shown to any model"
    )
    conflicts: Conflicts = Field(description="what to do with a text that has several labels")
    max_characters: Annotated[int, Field(ge=1)] = Field(
        description="maximum length of a review; longer ones are refused"
    )
    mask_personal: bool = Field(description="replace personal data by [EMAIL], [PHONE] and [ORDER_NUMBER]")
    train_size: Literal["all"] | Annotated[int, Field(ge=10)] = Field(
        description="number of training reviews; the test split does not change"
    )
    labels: Labels = Field(description="each label with its meaning, which is part of the prompts")

    @field_validator("slices")
    @classmethod
    def _free_names(cls, slices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        columns = info.data.get("columns")
        return free_slices(slices, [columns.text, columns.label] if columns else [])


class SplitConfig(Section):
    test: Share = Field(description="share of all reviews that is only used for testing; its hash is recorded")
    validation: Share = Field(
        description="share of the remaining reviews for the validation split, on which choices are made"
    )
    seed: Seed = Field(description="seed of the random split")
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        description="texts at least this similar (cosine of character 3-5-grams) are in the same split"
    )
