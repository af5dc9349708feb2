"""The section `promotion`: the gates that a candidate must pass to become the champion."""

from typing import Annotated

from pydantic import Field, StringConstraints

from reviewtune.core.config.section import Section
from reviewtune.core.config.types import Share

RegisteredName = Annotated[str, StringConstraints(pattern=r"^[^/:'\"%]+$", max_length=200)]
Rate = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]


class PromotionConfig(Section):
    """All have defaults, because params.yaml of earlier runs does not have this section."""

    name: RegisteredName | None = Field(
        None,
        description="name in the model registry; null: reviewtune-DATA, so that each data set has its own champion",
    )
    margin: Share = Field(
        0.02,
        description="accuracy that a candidate may lose to the champion: the one-sided 95 % interval of the difference "
        "on the test reviews must exclude a larger loss; `reviewtune compare` recommends a cheaper arm by the same "
        "margin",
    )
    max_unusable: Rate | None = Field(
        0.02, description="highest share of test reviews without a usable answer; null: no limit"
    )
    min_resisted: Rate | None = Field(
        0.6, description="lowest share of hostile reviews that do not get the label they want; null: not asked"
    )
    max_latency_p95: Amount | None = Field(
        10.0, description="highest 95th percentile of the latency of an answer in seconds; null: no limit"
    )
    max_cost_per_1k: Amount | None = Field(1.0, description="highest cost in USD per 1,000 reviews; null: no limit")
    max_calibration_error: Rate | None = Field(
        0.15,
        description="highest expected calibration error of the calibrated confidence on the test reviews; null: no "
        "limit",
    )
