"""The configuration: conf/ is composed into params.yaml, which is validated as a frozen, strict `Config`.

`load_params` (for stages) and `from_hydra` (for sweeps) run the same validation. Neither has defaults: they are in
conf/ only. Functions take the section that they need. The field descriptions are the text of docs/configuration.md.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from reviewtune.core.config_types import (
    Auto,
    ColumnName,
    Date,
    Labels,
    Seed,
    Share,
    Temperature,
    Text,
    free_slices,
)
from reviewtune.errors import ConfigError

LabelScoring = Literal["none", "raw", "corrected", "auto"]
OTHER_SETTINGS = {
    "response_format": "structured_output: false",
    "logprobs": "label_scores: none",
    "top_logprobs": "label_scores: none",
    "max_completion_tokens": "answer_limit: max_tokens or none",
    "max_tokens": "answer_limit: none",
}
"""How a parameter of a request is left out that has a separate setting."""
FINETUNED, CHECKPOINT = "finetuned", "checkpoint_"  # names of the fine-tuned model's arm and of those of its epochs


class Section(BaseModel):
    """A section of the configuration: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)


class ColumnsConfig(Section):
    """Names of the columns in the table; `id` and `second_label` may be null."""

    text: ColumnName = Field(description="column with the review")
    label: ColumnName = Field(description="column with its label")
    id: ColumnName | None = Field(description="column with a unique id of each review; null: use its line number")
    second_label: ColumnName | None = Field(description="column with a second annotator's label; null: none")


class DataConfig(Section):
    name: Text = Field(description="name of the data set in reports and runs")
    path: Path = Field(description="CSV or .xlsx with the labelled reviews, relative to the project")
    language: Text = Field(description="language of the reviews as ISO 639-1 code, such as en")
    columns: ColumnsConfig = Field(description="names of the table's columns")
    slices: tuple[ColumnName, ...] = Field(
        description="columns whose values are scored separately; not shown to any model"
    )
    conflicts: Literal["refuse", "majority", "drop"] = Field(
        description="what to do with a text that has several labels"
    )
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
    validation: Share = Field(description="share of the remaining reviews that the validation loss is measured on")
    seed: Seed = Field(description="seed of the random split")
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        description="texts at least this similar (cosine of character 3-5-grams) are in the same split"
    )


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
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(description="maximum number of concurrent requests")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(description="retries per request, with increasing pauses")
    timeout: Annotated[float, Field(gt=0)] = Field(description="timeout of a request in seconds")
    priced_as: str | None = Field(description="entry of prices.models; null: no charge")

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
            if isinstance(name, str) and name in OTHER_SETTINGS:
                raise ValueError(f"{name} has a separate setting, {OTHER_SETTINGS[name]}")
        return tuple(names)


class PromptConfig(Section):
    """Templates: `{text}` in user is the review; in system, `{labels}` is the list of labels with their meanings and
    `{answer}` the form of the answer."""

    name: Text = Field(description="name of the prompt in reports and runs")
    system: Text = Field(
        description="system message; {labels} and {answer} are replaced by the labels and the form of an answer"
    )
    user: Annotated[str, StringConstraints(pattern=r"\{text\}")] = Field(
        description="user message; {text} is replaced by the review"
    )
    answer: Literal["json", "label"] = Field(description='form of an answer: {"label": "..."} or the bare label')


class TrainingConfig(Section):
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = Field(
        description="passes over the training reviews; auto: let the provider choose"
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = Field(
        description="reviews per training step; auto: let the provider choose"
    )
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = Field(
        description="factor on the provider's default learning rate"
    )
    seed: Seed = Field(description="seed of the order of the reviews")
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        description="part of the fine-tuned model's name"
    )


class LinearArmConfig(Section):
    kind: Literal["linear"] = Field(description="TF-IDF and logistic regression")
    seed: Seed = Field(description="seed of the regression")


class MajorityArmConfig(Section):
    kind: Literal["majority"] = Field(description="always the most frequent label")
    seed: Seed = Field(description="has no effect")


class AskingConfig(Section):
    """How any model is asked for a label."""

    label_scores: LabelScoring = Field(description="use of log-probabilities, as provider.label_scores")
    repeats: Annotated[int, Field(ge=0, le=20)] = Field(
        description="how often each review is asked again, to measure whether its label is stable"
    )
    temperature: Temperature = Field(description="sampling temperature; 0 picks the most likely answer")
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(
        description="maximum length of an answer in tokens; a truncated answer counts as an error"
    )
    seed: Seed = Field(description="seed of sampling and of the bootstrap")


class PromptArmConfig(AskingConfig):
    kind: Literal["prompt"] = Field(description="a prompted base model")
    prompt: PromptConfig = Field(description="as section prompt")
    provider: ProviderConfig = Field(description="as section provider")
    shots: Annotated[int, Field(ge=0, le=20)] = Field(
        description="number of labelled examples in the prompt; with balanced, per label"
    )
    examples: Literal["balanced", "nearest"] = Field(
        description="balanced: random examples of every label; nearest: the most similar reviews"
    )
    reasoning: bool = Field(description="ask for a reason before the label")


ArmConfig = Annotated[LinearArmConfig | MajorityArmConfig | PromptArmConfig, Field(discriminator="kind")]


class CascadeConfig(Section):
    """Arm `first` answers where it is confident; `second`, an arm or `person`, answers the rest."""

    first: Text = Field(description="arm that is asked first")
    second: Text = Field(description="arm for the reviews that the first is unsure of, or person")
    wanted_accuracy: Share = Field(description="required accuracy on the reviews that the first arm answers")
    person_usd: Annotated[float, Field(ge=0)] = Field(description="cost of a manually classified review in USD")


class EvaluationConfig(AskingConfig):
    injections: bool = Field(description="also score the prompt injections in data/injections")
    checkpoints: tuple[Annotated[int, Field(ge=1, le=50)], ...] = Field(
        description="epochs whose models are separate arms; [1, 2] adds checkpoint_1 and checkpoint_2"
    )
    cascade: CascadeConfig = Field(description="a small model first, another one for the reviews that it is unsure of")
    reference: Text = Field(description="arm that the others are compared with")
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(description="resamples of the paired bootstrap")
    mode: Literal["auto", "online", "batch"] = Field(
        description="online: single requests; batch: the Batch API, at half the price; auto: provider.mode"
    )
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        description="limit of requests per minute in online mode; null: no limit"
    )
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        description="limit of tokens per minute in online mode, prompts and longest answers; null: no limit"
    )
    budget_usd: Annotated[float, Field(gt=0)] | None = Field(
        description="maximum cost in USD of a run, or of a whole sweep; null: no limit"
    )


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
