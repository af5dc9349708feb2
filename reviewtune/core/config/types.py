"""Types of the configuration's values, and the rules for the names and meanings of labels and columns."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from reviewtune.core.normalisation import normalise

Auto = Literal["auto"]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
LabelName = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=64)]
Text = Annotated[str, StringConstraints(min_length=1)]
ColumnName = Annotated[Text, AfterValidator(normalise)]  # as columns are normalised when a table is read
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]
TODO = "TODO"  # a meaning that `reviewtune init-data` leaves to the user
PIPELINE_COLUMNS = (
    "review_id", "text", "label", "label_second", "predicted", "correct", "answer", "error", "confidence",
    "prompt_tokens", "completion_tokens", "as_answered", "prior_corrected", "given_split", "review_sha256_v1",
)  # fmt: skip


def _written_meaning(meaning: str) -> str:
    if meaning.partition(":")[0].strip() == TODO:
        raise ValueError("write what the label means; it becomes part of the prompts")
    return meaning


def _normalised_labels(labels: object) -> object:
    """Labels in the form in which they are read from a table.

    Raises:
        ValueError: two of them become equal.
    """
    if not isinstance(labels, dict):
        return labels
    normal = {normalise(name): meaning for name, meaning in labels.items()}
    if len(normal) < len(labels):
        raise ValueError("two labels differ only in how their letters are encoded or in invisible characters")
    return normal


Meaning = Annotated[Text, AfterValidator(_written_meaning)]
Labels = Annotated[dict[LabelName, Meaning], Field(min_length=2), BeforeValidator(_normalised_labels)]


def free_slices(slices: tuple[str, ...], columns: Sequence[str]) -> tuple[str, ...]:
    """The slices. Each is a column of the tables that the pipeline writes, so it needs a name that they do not have.

    Args:
        slices: names of columns.
        columns: those with the review and its label.

    Raises:
        ValueError: a name is taken, or there twice.
    """
    if names := [name for name in slices if name in (*PIPELINE_COLUMNS, *columns)]:
        raise ValueError(
            f"'{names[0]}' is a column that the pipeline itself uses; leave it out, or rename it in your file"
        )
    if len(set(slices)) < len(slices):
        raise ValueError(f"{', '.join(slices)} contains a column twice")
    return slices
