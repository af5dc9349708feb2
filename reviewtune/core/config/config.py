"""The configuration: conf/ is composed into params.yaml, which is validated as a frozen, strict `Config`.

`load_params` (for stages) and `from_hydra` (for sweeps) run the same validation. Neither has defaults: they are in
conf/ only, except for settings that the params.yaml of earlier runs do not have. Functions take the section that they
need. The field descriptions are the text of docs/configuration.md.
"""

import re
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from reviewtune.core.config.arms import CHECKPOINT, FINETUNED, LIMITS, ArmConfig, EvaluationConfig
from reviewtune.core.config.data import DataConfig, SplitConfig
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.core.config.promotion import PromotionConfig
from reviewtune.core.config.provider import Prices, ProviderConfig
from reviewtune.core.config.retraining import RetrainingConfig
from reviewtune.core.config.section import Section
from reviewtune.core.config.training import PromptConfig, TrainingConfig
from reviewtune.core.config.types import Text
from reviewtune.errors import ConfigError

UNREGISTERED = r"[/:'\"%]"


class TrackingConfig(Section):
    experiment: Text = Field(description="name of the MLflow experiment")
    uri: str | None = Field(description="address of an MLflow server; null: mlruns/mlflow.db in this project")


class Config(Section):
    data: DataConfig = Field(description="The labelled reviews.")
    split: SplitConfig = Field(description="How reviews are split into training, validation and test.")
    provider: ProviderConfig = Field(description="The service that trains and answers.")
    prompt: PromptConfig = Field(description="The prompt for training and inference.")
    training: TrainingConfig = Field(description="Settings of the fine-tuning job.")
    arms: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")], ArmConfig] = Field(
        description="The baselines that the fine-tuned model is compared with."
    )
    evaluation: EvaluationConfig = Field(description="How the fine-tuned model is asked and all arms are compared.")
    prices: Prices = Field(description="Prices in USD per million tokens.")
    tracking: TrackingConfig = Field(description="Where runs are stored.")
    # These have defaults, unlike the other sections, because params.yaml of earlier runs does not have them.
    promotion: PromotionConfig = Field(
        PromotionConfig(),
        description="The gates that a candidate must pass to become the champion (`reviewtune promote`).",
    )
    lifecycle: LifecycleConfig = Field(
        LifecycleConfig(), description="When models and training end at providers (`reviewtune lifecycle`)."
    )
    retraining: RetrainingConfig = Field(
        RetrainingConfig(), description="When it is worth training again (`reviewtune retrain --if-needed`)."
    )

    @model_validator(mode="after")
    def _names(self) -> "Config":
        for reserved in self.compared[len(self.arms) :]:
            if reserved in self.arms:
                raise ValueError(f"arms: '{reserved}' is reserved for the fine-tuned model; rename this arm")
        if self.evaluation.reference not in self.arms:
            raise ValueError(
                f"evaluation.reference: '{self.evaluation.reference}' is not one of the arms: {', '.join(self.arms)}"
            )
        for side in (self.evaluation.cascade.first, self.evaluation.cascade.second):
            if side not in (*self.compared, "person"):
                raise ValueError(f"evaluation.cascade: '{side}' is not one of: {', '.join(self.compared)}, person")
        priced_as, known = self.provider.priced_as, list(self.prices.models)
        if priced_as is not None and priced_as not in known:
            raise ValueError(f"provider.priced_as: '{priced_as}' is not one of prices.models: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _epochs(self) -> "Config":
        wanted, trained = self.evaluation.checkpoints, self.training.n_epochs
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"evaluation.checkpoints: {list(wanted)} contains an epoch twice")
        if trained != "auto" and max(wanted, default=0) > trained:
            raise ValueError(f"evaluation.checkpoints: {list(wanted)}, but training.n_epochs is {trained}")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of all arms, in the order of the comparison."""
        return (*self.arms, *(f"{CHECKPOINT}{epoch}" for epoch in self.evaluation.checkpoints), FINETUNED)

    @property
    def registered_name(self) -> str:
        """Name of this data set's model in the registry; characters that MLflow does not accept become -."""
        return self.promotion.name or f"reviewtune-{re.sub(UNREGISTERED, '-', self.data.name)}"

    def with_limits(self, now: EvaluationConfig | None) -> "Config":
        """The same configuration within the budget and the rates of now, for a model that was evaluated earlier.

        It keeps its own budget where that of now could not be kept: no prices are known, or answers have no limit.
        None: it keeps all of them.
        """
        if now is None:
            return self
        limits = {name: getattr(now, name) for name in LIMITS}
        if not (self.provider.has_prices and self.provider.limits_answers):
            limits["budget_usd"] = self.evaluation.budget_usd
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update=limits)})

    def refuse_unknown_arm(self, name: str) -> None:
        """Refuse a name that no baseline has.

        Raises:
            ConfigError: with the existing names.
        """
        if name not in self.arms:
            known = ", ".join(self.arms)
            raise ConfigError(
                f"arm '{name}' is not one of: {known}; to add an arm, write a file in conf/arm/ and list it in arm@arms"
            )
