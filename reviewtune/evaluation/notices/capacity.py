"""What arms and tests cannot do with a data set, known from its splits before anything is trained or asked.

Nothing here stops the pipeline: an arm works with what there is, and these sentences say what that is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.formatting import counted, with_counts
from reviewtune.data.chat.chat_files import count_tokens
from reviewtune.data.prompts import Prompt, draw_examples, scarce_labels
from reviewtune.data.splits import Splits

FEW_TESTS = 5  # with fewer test reviews a label's scores say hardly anything
CONTEXT_TOKENS = {
    "gemma-3-270m": 32_768,
    "smollm2-135m-instruct": 8_192,
    "qwen2.5-coder-1.5b-instruct": 32_768,
    "gpt-4o": 128_000,
    "gpt-4.1": 1_047_576,
}
"""Context length by the beginning of a model's name, answer included.

Sources: the models' config.json (max_position_embeddings); platform.openai.com/docs/models.
"""


def capacity_notices(config: Config, splits: Splits) -> list[str]:
    """What the splits do not suffice for: one sentence each, on labels, on the arms' examples, on long prompts.

    Args:
        config: the labels, the arms and the fine-tuned model's prompt.
        splits: the reviews.
    """
    labels = list(config.data.labels)
    arms = {name: arm for name, arm in config.arms.items() if isinstance(arm, PromptArmConfig)}
    notices = [
        _missing(splits, labels),
        _hardly_tested(splits.test, labels),
        *(shots_notice(name, arm, labels, splits.train) for name, arm in arms.items()),
        *(
            _too_long(name, arm.provider, _longest_prompt(arm, config, splits), arm.max_tokens)
            for name, arm in arms.items()
        ),
        _too_long("the fine-tuned model", config.provider, _longest_example(config, splits), 0),
    ]
    return [notice for notice in notices if notice]


def shots_notice(name: str, arm: PromptArmConfig, labels: Sequence[str], train: pd.DataFrame) -> str | None:
    """Of which labels an arm cannot show as many examples as it is set to; None: there are enough.

    Args:
        name: the arm's name.
        arm: its settings.
        labels: the label list.
        train: the training split, from which the examples come.
    """
    if arm.examples == "nearest":
        short = f"{name}: arms.{name}.shots is {arm.shots}, but there are only {counted(len(train), 'training review')}"
        return f"{short}; it shows all of them" if arm.shots > len(train) else None
    if not (scarce := scarce_labels(train, labels, arm.shots)):
        return None
    return (
        f"{name}: arms.{name}.shots is {arm.shots}, but {_share(scarce, labels)} fewer training reviews; "
        f"it shows all there are: {with_counts(scarce)}"
    )


def _missing(splits: Splits, labels: Sequence[str]) -> str | None:
    """Labels without a training review are never learned; train_size is what usually removes them."""
    if not (missing := scarce_labels(splits.train, labels, 1)):
        return None
    return (
        f"no training review is left of {', '.join(missing)}: no arm can learn this from examples; "
        "raise data.train_size or label more"
    )


def _hardly_tested(test: pd.DataFrame, labels: Sequence[str]) -> str | None:
    if not (few := scarce_labels(test, labels, FEW_TESTS)):
        return None
    return (
        f"{_share(few, labels)} fewer than {FEW_TESTS} test reviews, so their own scores say little: {with_counts(few)}"
    )


def _too_long(name: str, provider: ProviderConfig, tokens: int, answer: int) -> str | None:
    context = context_of(provider)
    if context is None or tokens + answer <= context:
        return None
    return (
        f"{name}: its longest prompt and answer have about {tokens + answer:,} tokens, the context of "
        f"{provider.base_model} holds {context:,}: such reviews get no answer; use fewer shots, shorter meanings of "
        "the labels, or a lower data.max_characters"
    )


def context_of(provider: ProviderConfig) -> int | None:
    """Tokens that the context of the provider's base model holds; None: not known."""
    try:
        settings = read_json(Path(provider.base_model) / "config.json")
        return int(settings["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError):  # not a folder with a model
        known = [name for name in CONTEXT_TOKENS if provider.base_model.startswith(name)]
        return CONTEXT_TOKENS[max(known, key=len)] if known else None


def _longest_prompt(arm: PromptArmConfig, config: Config, splits: Splits) -> int:
    """Tokens of the arm's longest prompt, as gpt-4o-mini counts them; with nearest examples at most."""
    asked, labels = pd.concat([splits.valid, splits.test]), config.data.labels
    if arm.examples == "nearest":
        longest = splits.train.loc[splits.train["text"].str.len().sort_values(ascending=False).index[: arm.shots]]
        examples = tuple(zip(longest["text"], longest["label"], strict=True))
    else:
        examples = draw_examples(splits.train, list(labels), arm.shots, arm.seed)
    prompt = Prompt(arm.prompt, labels, arm.reasoning, examples)
    return count_tokens(prompt.messages(_longest(asked)))


def _longest_example(config: Config, splits: Splits) -> int:
    prompt, seen = Prompt.of(config), pd.concat([splits.train, splits.valid])
    label = max(config.data.labels, key=len)
    return count_tokens(prompt.line(_longest(seen), label)["messages"])


def _longest(reviews: pd.DataFrame) -> str:
    return max(reviews["text"], key=len, default="")


def _share(few: Mapping[str, int], labels: Sequence[str]) -> str:
    """Such as `2 of 8 labels have`."""
    return f"{len(few)} of {counted(len(labels), 'label')} {'has' if len(few) == 1 else 'have'}"
