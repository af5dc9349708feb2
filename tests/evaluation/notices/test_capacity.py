"""What arms cannot do with a data set is known from its splits."""

import json
from pathlib import Path

import pytest

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.data.splits import Splits, split
from reviewtune.evaluation.notices.capacity import capacity_notices, context_of
from tests.support.unbalanced import LABELS, for_tickets, tickets


def notices(config: Config, splits: Splits, **arm: object) -> str:
    """With other settings of arm few_shot."""
    changed = {**config.arms, "few_shot": config.arms["few_shot"].model_copy(update=arm)}
    return "\n".join(capacity_notices(config.model_copy(update={"arms": changed}), splits))


@pytest.fixture
def parts(config: Config) -> Splits:
    return split(tickets(), config.split, train_size="all")


def test_scarce_labels_are_named_with_the_setting(config: Config, parts: Splits) -> None:
    text = notices(for_tickets(config), parts)
    assert "few_shot: arms.few_shot.shots is 4, but 10 of 25 labels have fewer training reviews" in text
    assert "15 of 25 labels have fewer than 5 test reviews" in text
    assert "few_shot_cot" not in text  # one example of each label
    assert "few_shot: " not in notices(for_tickets(config), parts, shots=3)


def test_examples_by_similarity_need_a_training_split_of_that_size(config: Config, parts: Splits) -> None:
    tickets_of = for_tickets(config)
    assert "few_shot" not in notices(tickets_of, parts, examples="nearest", shots=20)
    few = parts._replace(train=parts.train[:10])
    text = notices(tickets_of, few, examples="nearest", shots=20)
    assert "few_shot: arms.few_shot.shots is 20, but there are only 10 training reviews; it shows all of them" in text


def test_a_training_size_that_leaves_labels_out_is_reported(config: Config) -> None:
    parts = split(tickets(), config.split, train_size=20)
    missing = [label for label in LABELS if label not in set(parts.train["label"])]
    assert len(missing) == 5
    assert f"no training review is left of {', '.join(missing)}" in notices(for_tickets(config), parts)


def test_our_own_data_suffice(config: Config) -> None:
    from reviewtune.data.reviews import prepare

    parts = split(prepare(config.data.path, config.data).reviews, config.split, train_size="all")
    assert capacity_notices(config, parts) == []


def test_a_prompt_longer_than_the_models_context_is_reported(config: Config, parts: Splits, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    small = for_tickets(config, base_model=str(tmp_path))
    text = notices(small, parts, shots=3)
    assert "few_shot: its longest prompt and answer have about " in text
    assert f"tokens, the context of {tmp_path} holds 2,048" in text
    assert "zero_shot: " not in text
    assert "the fine-tuned model" not in text
    long = parts._replace(train=parts.train.assign(text="word " * 3000))
    assert "the fine-tuned model: its longest prompt" in notices(small, long)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("gemma-3-270m", 32_768), ("gpt-4o-mini-2024-07-18", 128_000), ("gpt-4.1-nano", 1_047_576), ("my-own", None)],
)
def test_the_context_of_a_known_model(config: Config, name: str, tokens: int | None) -> None:
    arm = config.arms["zero_shot"]
    assert isinstance(arm, PromptArmConfig)
    assert context_of(arm.provider.model_copy(update={"base_model": name})) == tokens
