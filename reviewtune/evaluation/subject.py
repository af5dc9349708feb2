"""What is evaluated: a model, how it is asked, and who is paid for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import pandas as pd

from reviewtune.core.config import Config, LabelScoring, PromptArmConfig, ProviderConfig
from reviewtune.data.nearest_examples import nearest_examples
from reviewtune.data.prompts import Message, Prompt, draw_examples
from reviewtune.evaluation.label_logprobs import TOP_LOGPROBS

if TYPE_CHECKING:
    from reviewtune.providers.inference import Request

Kind = Literal["linear", "majority", "prompt", "checkpoint", "finetuned"]


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, how it is asked, and who is paid for it."""

    arm: str
    kind: Kind
    model: str
    prompt: Prompt | None = None
    provider: ProviderConfig | None = None
    temperature: float = 0
    max_tokens: int = 64
    seed: int = 0
    trained_tokens: int = 0
    label_scores: LabelScoring = "none"
    repeats: int = 0  # that each review is asked again
    pool: pd.DataFrame | None = None  # from which each review gets its own examples
    nearest: int = 0  # how many

    @classmethod
    def of_arm(cls, name: str, arm: PromptArmConfig, labels: dict[str, str], pool: pd.DataFrame) -> Self:
        """A prompt arm; its examples are drawn from the pool of training reviews, here or for each review."""
        nearest = arm.shots if arm.examples == "nearest" else 0
        examples = () if nearest else draw_examples(pool, list(labels), arm.shots, arm.seed)
        prompt = Prompt(arm.prompt, labels, arm.reasoning, examples)
        how = (arm.temperature, arm.max_tokens, arm.seed, 0, arm.label_scores, arm.repeats)
        return cls(
            name, "prompt", arm.provider.base_model, prompt, arm.provider, *how, pool if nearest else None, nearest
        )

    @classmethod
    def of_finetuned(cls, model: str, config: Config, trained_tokens: int = 0) -> Self:
        prompt, how = Prompt.of(config), config.evaluation
        asked = (config.provider, how.temperature, how.max_tokens, how.seed)
        scoring = "none" if config.provider.label_scores == "none" else how.label_scores  # none: it gives no logprobs
        return cls("finetuned", "finetuned", model, prompt, *asked, trained_tokens, scoring, how.repeats)

    def chats(self, texts: Sequence[str]) -> list[list[Message]]:
        """What is sent for each review."""
        assert self.prompt is not None
        if self.pool is None:
            return [self.prompt.messages(text) for text in texts]
        found = nearest_examples(self.pool, texts, self.nearest)
        prompts = [replace(self.prompt, examples=examples) for examples in found]
        return [prompt.messages(text) for prompt, text in zip(prompts, texts, strict=True)]

    @property
    def request(self) -> "Request":
        """How each review is asked for."""
        from reviewtune.providers.inference import Request

        assert self.prompt is not None
        assert self.provider is not None
        schema = self.prompt.response_format if self.provider.structured_output else None
        scored = self.label_scores != "none"
        top = TOP_LOGPROBS if scored else None
        return Request(self.model, schema, self.temperature, self.max_tokens, self.seed, scored, top)

    @property
    def title(self) -> str:
        return f"{self.arm}: {self.model}"

    @property
    def priced(self) -> Literal["base", "finetuned"]:
        return "finetuned" if self.kind in ("finetuned", "checkpoint") else "base"
