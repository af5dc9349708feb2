"""The section `retraining`: when it is worth training again (`reviewtune retrain --if-needed`)."""

from typing import Annotated

from pydantic import Field

from reviewtune.core.config.section import Section

Count = Annotated[int, Field(ge=1)]


class RetrainingConfig(Section):
    """All have defaults, because params.yaml of earlier runs does not have this section."""

    new_labels: Count | None = Field(
        100,
        description="reviews labelled since the last promotion that are worth a retraining by themselves; null: never",
    )
    least_labels: Count = Field(
        20, description="with an alarm or a low audit so many are enough; with fewer there is nothing new to learn"
    )
    alarm: bool = Field(True, description="whether an alarm of `reviewtune monitor` about the champion is a reason")
    min_audit_accuracy: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="an audit of the champion (`reviewtune queue merge`) whose whole 95 % interval is below this "
        "accuracy is a reason; null: never",
    )
