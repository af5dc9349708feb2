"""What is evaluated: a baseline, or a model with the way in which it is asked and paid for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from reviewtune.core.config.arms import AskingConfig, LinearArmConfig, MajorityArmConfig, PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import Prices, ProviderConfig
from reviewtune.data.nearest_examples import NearestExamples
from reviewtune.data.prompts import Message, Prompt, draw_examples
from reviewtune.errors import ConfigError
from reviewtune.evaluation import linear_baseline
from reviewtune.evaluation.label_scoring.answer_scores import TOP_LOGPROBS

if TYPE_CHECKING:  # the openai client takes 0.6 s to import, and baselines do not need it
    import pandas as pd

    from reviewtune.providers.call_policy import CallPolicy
    from reviewtune.providers.completion import Answer, Request

ModelKind = Literal["prompt", "checkpoint", "finetuned"]


@dataclass(frozen=True, kw_only=True)
class BaselineSubject:
    """A baseline without a language model.

    Args:
        arm: the arm's name.
        kind: which baseline.
        seed: of the fit.
    """

    arm: str
    kind: linear_baseline.Kind
    seed: int

    @classmethod
    def of_arm(cls, name: str, arm: LinearArmConfig | MajorityArmConfig) -> Self:
        return cls(arm=name, kind=arm.kind, seed=arm.seed)

    @property
    def model(self) -> str:
        return linear_baseline.MODELS[self.kind]

    @property
    def title(self) -> str:
        return f"{self.arm}: {self.model}"


@dataclass(frozen=True, kw_only=True)
class ModelSubject:
    """A model, how it is asked, and what its answers cost.

    Args:
        arm: the arm's name.
        kind: what kind of arm it is.
        model: the model's name at the provider.
        prompt: the prompt with which it is asked.
        asking: temperature, answer length, seed, use of log-probabilities, repeats.
        policy: the provider, its limits and its prices.
        prices: the price list, for what the same tokens cost at another provider.
        trained_tokens: tokens that the model was fine-tuned on, over all epochs.
        nearest: where each review gets its own examples from; None: all share those of the prompt.
        has_threshold: whether a confidence threshold is chosen for it, which needs its answers to validation reviews.
    """

    arm: str
    kind: ModelKind
    model: str
    prompt: Prompt
    asking: AskingConfig
    policy: "CallPolicy"
    prices: Prices
    trained_tokens: int = 0
    nearest: NearestExamples | None = None
    has_threshold: bool = False

    @classmethod
    def of_arm(cls, name: str, arm: PromptArmConfig, config: Config, pool: "pd.DataFrame | None") -> Self:
        """A prompt arm; its examples are drawn from the training reviews `pool`, once or for each review.

        Without examples (shots 0) it needs no pool.

        Raises:
            ConfigError: there is a budget, but the provider's prices are not known.
        """
        from reviewtune.providers.call_policy import CallPolicy

        nearest = arm.examples == "nearest" and arm.shots > 0
        labels = config.data.labels
        examples = () if nearest or pool is None else draw_examples(pool, list(labels), arm.shots, arm.seed)
        return cls(
            arm=name,
            kind="prompt",
            model=arm.provider.base_model,
            prompt=Prompt(arm.prompt, labels, arm.reasoning, examples),
            asking=arm,
            policy=CallPolicy.of(arm.provider, config.evaluation, config.prices, "base"),
            prices=config.prices,
            nearest=NearestExamples(pool, arm.shots) if nearest and pool is not None else None,
            has_threshold=name == config.evaluation.cascade.first,
        )

    @classmethod
    def of_finetuned(cls, model: str, config: Config, trained_tokens: int = 0) -> Self:
        """A fine-tuned model with the prompt that it was trained with.

        Raises:
            ConfigError: there is a budget, but the provider's prices are not known.
        """
        from reviewtune.providers.call_policy import CallPolicy

        no_logprobs = config.provider.label_scores == "none"  # the provider does not return log-probabilities
        asking = config.evaluation.model_copy(update={"label_scores": "none"} if no_logprobs else {})
        return cls(
            arm="finetuned",
            kind="finetuned",
            model=model,
            prompt=Prompt.of(config),
            asking=asking,
            policy=CallPolicy.of(config.provider, config.evaluation, config.prices, "finetuned"),
            prices=config.prices,
            trained_tokens=trained_tokens,
            has_threshold=True,
        )

    @property
    def provider(self) -> ProviderConfig:
        return self.policy.provider

    @property
    def title(self) -> str:
        return f"{self.arm}: {self.model}"

    @property
    def asks_validation(self) -> bool:
        """Whether something is chosen or estimated on the validation split, so that it is asked about it too."""
        scoring = self.asking.label_scores
        return scoring in ("auto", "corrected") or (self.has_threshold and scoring != "none")

    @property
    def request(self) -> "Request":
        """The settings that the requests of all reviews share."""
        from reviewtune.providers.completion import Request

        scored = self.asking.label_scores != "none"
        return Request(
            model=self.model,
            response_format=self.prompt.response_format if self.provider.structured_output else None,
            temperature=self.asking.temperature,
            max_tokens=self.asking.max_tokens,
            seed=self.asking.seed,
            logprobs=scored,
            top_logprobs=TOP_LOGPROBS if scored else None,
        )

    def chats(self, texts: Sequence[str]) -> list[list[Message]]:
        """The messages that are sent for each review."""
        if self.nearest is None:
            return [self.prompt.messages(text) for text in texts]
        prompts = [replace(self.prompt, examples=examples) for examples in self.nearest.of(texts)]
        return [prompt.messages(text) for prompt, text in zip(prompts, texts, strict=True)]


Subject = BaselineSubject | ModelSubject


def zero_shot_arm(config: Config) -> tuple[str, PromptArmConfig]:
    """Name and settings of the arm whose prompt lists the labels without examples, as a base model needs it.

    Raises:
        ConfigError: there is no such arm.
    """
    for name, arm in config.arms.items():
        if isinstance(arm, PromptArmConfig) and arm.shots == 0 and not arm.reasoning:
            return name, arm
    raise ConfigError(
        "arms: none is a prompt arm with shots 0 and without reasoning, whose prompt a base model needs; "
        "add conf/arm/zero_shot"
    )


def why_unusable(answer: "Answer") -> str:
    """Why an answer without a label has none."""
    if answer.refused:
        return f"the provider did not take the review: {answer.refused}"
    if answer.unreadable:
        return f"no usable answer: {answer.unreadable}"
    return f"no label of the list (finish reason: {answer.finish_reason})"
