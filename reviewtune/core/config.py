"""The one configuration: conf/ -> params.yaml -> a frozen, strict `Config`.

Two doors end in the same check: `load_params` for stages, `from_hydra` for sweeps. Neither gives a default: those
live in conf/ alone. All faults are listed together, each with its dotted path. Functions take the section they need.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from reviewtune.errors import ConfigError

if TYPE_CHECKING:
    pass

Auto = Literal["auto"]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
LabelName = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=64)]
Text = Annotated[str, StringConstraints(min_length=1)]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]
LabelScoring = Literal["none", "raw", "corrected"]
FINETUNED, CHECKPOINT = "finetuned", "checkpoint_"  # the fine-tuned model's own arms: itself, and that of epoch N


class Section(BaseModel):
    """Frozen, strict, no unknown key."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)


class ColumnsConfig(Section):
    """Names of the columns in the CSV; `id` and `second_label` may be null."""

    text: Text = Field(description="the column that holds the review")
    label: Text = Field(description="the column that holds its label")
    id: str | None = Field(description="the column with a name for each review; null: its line")
    second_label: str | None = Field(description="the column of a second annotator's label; null: none")


class DataConfig(Section):
    name: Text = Field(description="stands in reports and runs")
    path: Path = Field(description="UTF-8 CSV, relative to the project")
    language: Text = Field(description="of the reviews, such as en")
    columns: ColumnsConfig = Field(description="which column is what")
    slices: tuple[str, ...] = Field(description="columns whose values are scored apart; no model sees them")
    conflicts: Literal["refuse", "majority", "drop"] = Field(
        description="what to do with one text under several labels"
    )
    max_characters: Annotated[int, Field(ge=1)] = Field(description="a longer review is refused")
    mask_personal: bool = Field(description="[EMAIL], [PHONE], [ORDER_NUMBER] in the place of personal data")
    train_size: Literal["all"] | Annotated[int, Field(ge=10)] = Field(
        description="how many reviews to train on; the test split stays as it is"
    )
    labels: Annotated[dict[LabelName, Text], Field(min_length=2)] = Field(
        description="each label and its meaning, which goes into the prompts"
    )


class SplitConfig(Section):
    test: Share = Field(description="share of all reviews that no model sees, frozen by hash")
    validation: Share = Field(description="share of the rest that the loss is measured on")
    seed: Seed = Field(description="of the draw")
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        description="texts at least this alike (cosine of character 3-5-grams) stay on one side"
    )


class ProviderConfig(Section):
    kind: Literal["local", "openai", "azure", "compatible"] = Field(description="who trains and answers")
    base_model: Text = Field(description="the model to fine-tune and to prompt")
    base_url: str | None = Field(description="the server's address, such as https://host/v1; null: the usual one")
    api_key_env: str | None = Field(description="NAME of the variable that holds the key; null: none")
    structured_output: bool = Field(description="answers held to the label list by a json_schema")
    mode: Literal["online", "batch"] = Field(description="what `evaluation.mode: auto` means here")
    label_scores: LabelScoring = Field(
        description="use of log-probabilities: confidence (raw), and the prior taken out too (corrected)"
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(description="requests under way at once")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(description="of one request, with longer and longer pauses")
    timeout: Annotated[float, Field(gt=0)] = Field(description="seconds a request may take")
    priced_as: str | None = Field(description="a row of prices.models; null: nothing is paid")

    @model_validator(mode="after")
    def _address(self) -> "ProviderConfig":
        if self.kind == "compatible" and not self.base_url:
            raise ValueError("base_url is needed for a compatible provider, such as https://host/v1")
        return self


class PromptConfig(Section):
    """Templates: `{text}` in user is the review; in system, `{labels}` is the list of labels with their meanings and
    `{answer}` the form of the answer."""

    name: Text = Field(description="stands in reports and runs")
    system: Text = Field(description="the instruction, with {labels} and {answer} where wanted")
    user: Annotated[str, StringConstraints(pattern=r"\{text\}")] = Field(
        description="the question; {text} is the review"
    )
    answer: Literal["json", "label"] = Field(description='{"label": "..."} or the bare label')


class TrainingConfig(Section):
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = Field(
        description="passes over the training reviews; auto: as the provider sees fit"
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = Field(description="reviews a step")
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = Field(description="of the provider's own rate")
    seed: Seed = Field(description="of the order of the reviews")
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        description="stands in the model's name"
    )


class LinearArmConfig(Section):
    kind: Literal["linear"] = Field(description="TF-IDF and logistic regression")
    seed: Seed = Field(description="of the regression")


class MajorityArmConfig(Section):
    kind: Literal["majority"] = Field(description="always the most frequent label")
    seed: Seed = Field(description="without effect")


class AskingConfig(Section):
    """How a model is asked for a label, whichever model it is."""

    label_scores: LabelScoring = Field(description="use of log-probabilities, as in provider")
    repeats: Annotated[int, Field(ge=0, le=20)] = Field(
        description="times each review is asked again, to see if its label is stable"
    )
    temperature: Temperature = Field(description="of the sampling; 0: the likeliest answer")
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(description="of an answer; a cut one counts as an error")
    seed: Seed = Field(description="of sampling and resampling")


class PromptArmConfig(AskingConfig):
    kind: Literal["prompt"] = Field(description="an un-tuned model, asked")
    prompt: PromptConfig = Field(description="as the section prompt")
    provider: ProviderConfig = Field(description="as the section provider")
    shots: Annotated[int, Field(ge=0, le=20)] = Field(description="labelled examples in the prompt")
    examples: Literal["balanced", "nearest"] = Field(
        description="so many a label; or so many in all, those most like the review"
    )
    reasoning: bool = Field(description="a reason before the label")


ArmConfig = Annotated[LinearArmConfig | MajorityArmConfig | PromptArmConfig, Field(discriminator="kind")]


class CascadeConfig(Section):
    """Arm `first` answers where it is sure; `second`, an arm or `person`, the rest."""

    first: Text = Field(description="the arm that is asked first")
    second: Text = Field(description="the arm for what the first is unsure of, or person")
    wanted_accuracy: Share = Field(description="of the reviews that the first keeps")
    person_usd: Annotated[float, Field(ge=0)] = Field(description="USD a review that a person sorts")


class EvaluationConfig(AskingConfig):
    injections: bool = Field(description="score hostile reviews too (data/injections)")
    checkpoints: tuple[Annotated[int, Field(ge=1, le=50)], ...] = Field(
        description="epochs such as [1, 2], whose models are arms of their own: checkpoint_1, checkpoint_2"
    )
    cascade: CascadeConfig = Field(description="a small model first, another for the reviews it is unsure of")
    reference: Text = Field(description="the arm that the others are compared with")
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(description="of the paired bootstrap")
    mode: Literal["auto", "online", "batch"] = Field(
        description="one by one, or by the Batch API at half the price; auto: provider.mode"
    )
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        description="what the account allows (online); null: no limit"
    )
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        description="the same in tokens, prompt and longest possible answer"
    )
    budget_usd: Annotated[float, Field(gt=0)] | None = Field(
        description="hard cap for a run, and for a whole sweep together; null: none"
    )


class TokenPrices(Section):
    """USD for a million tokens."""

    input: Annotated[float, Field(ge=0)] = Field(description="prompt tokens")
    cached: Annotated[float, Field(ge=0)] = Field(description="prompt tokens that the provider had read before")
    output: Annotated[float, Field(ge=0)] = Field(description="answer tokens")


class PriceRow(TokenPrices):
    """The prices of single requests, those of the Batch API, and where they are from."""

    batch: TokenPrices = Field(description="the same by the Batch API")
    date: Date = Field(description="when these were the prices")
    source: Text = Field(description="where they are from")


class FinetunedRow(PriceRow):
    training: Annotated[float, Field(ge=0)] = Field(description="tokens trained on, times epochs")


class ModelPrices(Section):
    base: PriceRow = Field(description="the model as it is")
    finetuned: FinetunedRow = Field(description="its fine-tunes")


class Prices(Section):
    date: Date = Field(description="when the book was last looked through")
    models: dict[str, ModelPrices] = Field(description="a row a model")


class TrackingConfig(Section):
    experiment: Text = Field(description="the MLflow experiment's name")
    uri: str | None = Field(description="an MLflow server's address; null: mlruns/mlflow.db of this project")


class Config(Section):
    data: DataConfig = Field(description="Which labelled reviews.")
    split: SplitConfig = Field(description="What is trained on and what is tested on.")
    provider: ProviderConfig = Field(description="Who trains and answers.")
    prompt: PromptConfig = Field(description="What the fine-tuned model is trained and asked with.")
    training: TrainingConfig = Field(description="The fine-tuning job's settings.")
    arms: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")], ArmConfig] = Field(
        description="What the fine-tune is compared with."
    )
    evaluation: EvaluationConfig = Field(
        description="How the fine-tuned model is asked, and how all arms are compared."
    )
    prices: Prices = Field(description="USD for a million tokens.")
    tracking: TrackingConfig = Field(description="Where runs are kept.")

    @model_validator(mode="after")
    def _names(self) -> "Config":
        for own in self.compared[len(self.arms) :]:
            if own in self.arms:
                raise ValueError(f"arms: '{own}' is the name of the fine-tuned model's own arm; rename yours")
        if self.evaluation.reference not in self.arms:
            raise ValueError(f"evaluation.reference: '{self.evaluation.reference}' is no arm of {list(self.arms)}")
        for side in (self.evaluation.cascade.first, self.evaluation.cascade.second):
            if side not in (*self.compared, "person"):
                raise ValueError(f"evaluation.cascade: '{side}' is none of {[*self.compared, 'person']}")
        priced_as, known = self.provider.priced_as, list(self.prices.models)
        if priced_as is not None and priced_as not in known:
            raise ValueError(f"provider.priced_as: '{priced_as}' has no row in prices.models {known}")
        return self

    @model_validator(mode="after")
    def _epochs(self) -> "Config":
        wanted, trained = self.evaluation.checkpoints, self.training.n_epochs
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"evaluation.checkpoints: {list(wanted)} names an epoch twice")
        if trained != "auto" and max(wanted, default=0) > trained:
            raise ValueError(f"evaluation.checkpoints: {list(wanted)}, but training.n_epochs is {trained}")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of all arms, in the order of the comparison."""
        return (*self.arms, *(f"{CHECKPOINT}{epoch}" for epoch in self.evaluation.checkpoints), FINETUNED)

    def refuse_unknown_arm(self, name: str) -> None:
        """
        Raises:
            ConfigError: no baseline has this name.
        """
        if name not in self.arms:
            known = ", ".join(self.arms)
            raise ConfigError(f"arm '{name}' is none of: {known}; a new one is a file in conf/arm/, named in arm@arms")
