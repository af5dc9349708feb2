"""The sections `provider` and `prices`: who trains and answers, and what it costs."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from reviewtune.core.config.section import LabelScoring, Section
from reviewtune.core.config.types import Date, Text

LEAVE_OUT = "leave_out"
LEFT_OUT_BY = {
    "response_format": ("structured_output", "false"),
    "logprobs": ("label_scores", "none"),
    "top_logprobs": ("label_scores", "none"),
    "temperature": (LEAVE_OUT, "[temperature]"),
    "seed": (LEAVE_OUT, "[seed]"),
    "max_completion_tokens": ("answer_limit", "max_tokens or none"),
    "max_tokens": ("answer_limit", "none"),
}
"""By parameter of a request: the setting of this section that leaves it out, and the value for that."""


class ProviderConfig(Section):
    kind: Literal["local", "openai", "azure", "compatible"] = Field(
        description="kind of service that trains and answers"
    )
    base_model: Text = Field(description="model to fine-tune and to prompt")
    base_url: str | None = Field(
        description="address of the server, such as https://host/v1; null: the provider's default"
    )
    api_key_env: str | None = Field(description="name of the environment variable with the API key; null: no key")
    structured_output: bool = Field(description="restrict answers to the labels with a json_schema")
    mode: Literal["online", "batch"] = Field(description="mode used for `evaluation.mode: auto`")
    label_scores: LabelScoring = Field(
        description="use of log-probabilities: none, raw (as confidence), corrected (also remove the model's label "
        "prior), or auto (corrected for an arm that it helps on the validation split, otherwise raw)"
    )
    # These two have defaults, unlike all others, because params.yaml of earlier runs does not have them.
    leave_out: tuple[Literal["temperature", "seed"], ...] = Field(
        (), description="parameters that the server does not accept: temperature, seed"
    )
    answer_limit: Literal["max_completion_tokens", "max_tokens", "none"] = Field(
        "max_completion_tokens",
        description="parameter that limits an answer's length; max_tokens for older servers, none to leave it out",
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        description="maximum number of concurrent requests; to the local provider fewer go if they would time out"
    )
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(description="retries per request, with increasing pauses")
    timeout: Annotated[float, Field(gt=0)] = Field(description="timeout of a request in seconds")
    priced_as: str | None = Field(description="entry of prices.models; null: no charge")

    @property
    def has_prices(self) -> bool:
        """Whether it is known what a request costs; the local provider charges nothing."""
        return self.kind == "local" or self.priced_as is not None

    @property
    def limits_answers(self) -> bool:
        """Whether the length of an answer, and so its cost, has a limit."""
        return self.answer_limit != "none"

    @model_validator(mode="after")
    def _address(self) -> "ProviderConfig":
        if self.kind == "compatible" and not self.base_url:
            raise ValueError("a compatible provider needs a base_url, such as https://host/v1")
        return self

    @field_validator("leave_out", mode="before")
    @classmethod
    def _known_settings(cls, names: object) -> object:
        if not isinstance(names, list):
            return names
        for name in names:
            setting, value = LEFT_OUT_BY.get(str(name), (LEAVE_OUT, ""))
            if setting != LEAVE_OUT:
                raise ValueError(f"{name} has a separate setting, {setting}: {value}")
        return tuple(names)


class TokenPrices(Section):
    """USD per million tokens."""

    input: Annotated[float, Field(ge=0)] = Field(description="prompt tokens")
    cached: Annotated[float, Field(ge=0)] = Field(description="prompt tokens in the provider's cache")
    output: Annotated[float, Field(ge=0)] = Field(description="answer tokens")


class PriceRow(TokenPrices):
    """Prices of online requests and of the Batch API, with their source."""

    batch: TokenPrices = Field(description="prices in the Batch API")
    date: Date = Field(description="date of these prices")
    source: Text = Field(description="source of these prices")


class FinetunedRow(PriceRow):
    training: Annotated[float, Field(ge=0)] = Field(description="trained tokens: tokens of the file times epochs")


class ModelPrices(Section):
    base: PriceRow = Field(description="prices of the base model")
    finetuned: FinetunedRow = Field(description="prices of its fine-tunes")


class Prices(Section):
    date: Date = Field(description="date the price list was last reviewed")
    models: dict[str, ModelPrices] = Field(description="prices per model")
