"""A model to evaluate, from a configuration, with the settings that a test cares about."""

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.subject import ModelKind, ModelSubject
from reviewtune.providers.call_policy import CallPolicy


def model_subject(
    config: Config,
    provider: ProviderConfig,
    *,
    arm: str = "x",
    kind: ModelKind = "prompt",
    trained_tokens: int = 0,
    **asking: object,
) -> ModelSubject:
    """The provider's base model with the configuration's prompt, asked at temperature 0 without log-probabilities.

    `asking` are other settings by name, such as temperature or label_scores.
    """
    settings = {"temperature": 0.0, "max_tokens": 64, "seed": 0, "label_scores": "none", "repeats": 0, **asking}
    return ModelSubject(
        arm=arm,
        kind=kind,
        model=provider.base_model,
        prompt=Prompt.of(config),
        asking=config.evaluation.model_copy(update=settings),
        policy=CallPolicy.of(
            provider, config.evaluation, config.prices, "finetuned" if kind == "finetuned" else "base"
        ),
        prices=config.prices,
        trained_tokens=trained_tokens,
    )
