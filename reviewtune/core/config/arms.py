"""The sections `arms` and `evaluation`: what is compared, and how each model is asked."""

from typing import Annotated, Literal

from pydantic import Field

from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.config.section import LabelScoring, Section
from reviewtune.core.config.training import PromptConfig
from reviewtune.core.config.types import Seed, Share, Temperature, Text

FINETUNED, CHECKPOINT = "finetuned", "checkpoint_"  # names of the fine-tuned model's arm and of those of its epochs


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


LIMITS = ("budget_usd", "requests_per_minute", "tokens_per_minute")
"""Settings of the section `evaluation` that change no result; work that one of them stopped continues with another."""


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
        description="maximum cost in USD of a run, of a whole sweep, or of a whole retraining; null: no limit"
    )
