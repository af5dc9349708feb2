"""Which candidates are the same model."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.measuring import Asked
from reviewtune.deployment.registration import IDENTITY, is_same_model
from reviewtune.deployment.served_folder import identity
from reviewtune.tracking.registry import RegisteredVersion


def changed(config: Config, section: str, **values: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def of(config: Config, arm: str = "finetuned", **options: bool) -> str:
    kind: Any = "finetuned" if arm == "finetuned" else "prompt"
    return identity(Asked(arm=arm, kind=kind, model="ft:issues", config=config, pool=None), "a" * 64, **options)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("evaluation", {"budget_usd": 7.0}),
        ("evaluation", {"requests_per_minute": 3.0}),
        ("evaluation", {"resamples": 200}),
        ("provider", {"concurrency": 3}),
        ("provider", {"timeout": 3.0}),
        ("provider", {"priced_as": None}),
    ],
)
def test_limits_make_no_other_model(config: Config, section: str, values: dict[str, Any]) -> None:
    assert of(changed(config, section, **values)) == of(config)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("evaluation", {"temperature": 0.7}),
        ("evaluation", {"max_tokens": 3}),
        ("provider", {"base_model": "another"}),
        ("provider", {"base_url": "http://127.0.0.1:9/v1"}),
        ("prompt", {"system": "Sort {labels}, answer {answer}"}),
        ("data", {"labels": {"late": "it came late"}}),
        ("data", {"mask_personal": True}),
    ],
)
def test_what_changes_answers_makes_another_model(config: Config, section: str, values: dict[str, Any]) -> None:
    assert of(changed(config, section, **values)) != of(config)


def test_labels_in_another_order_make_another_model(config: Config) -> None:
    """A prompt lists them in this order; what earlier releases noted does not depend on it."""
    labels = dict(reversed(config.data.labels.items()))
    reordered = changed(config, "data", labels=labels)
    assert of(reordered) != of(config) != of(config, ordered=False)
    assert of(reordered, ordered=False) == of(config, ordered=False)


def test_a_version_of_an_earlier_release_is_recognised(config: Config) -> None:
    asked, nothing = Asked(arm="zero_shot", kind="prompt", model="ft:issues", config=config, pool=None), pd.DataFrame()
    measured: Any = None
    candidate = Candidate(
        asked=asked,
        measured=measured,
        run=None,
        training={},
        train=nothing,
        valid=nothing,
        test=nothing,
        manifest={"splits": {"train": {"sha256": "a" * 64}}},
        root=Path(),
    )
    for noted in (of(config, "zero_shot", ordered=False), of(config, "zero_shot")):
        version = RegisteredVersion("shop", 1, (), {IDENTITY: noted}, "", None, 0.0)
        assert is_same_model(version, candidate)


def test_a_prompted_arm_is_known_by_its_own_settings(config: Config) -> None:
    arm: Any = config.arms["zero_shot"]
    slow = arm.model_copy(update={"provider": arm.provider.model_copy(update={"concurrency": 3})})
    moved = arm.model_copy(update={"provider": arm.provider.model_copy(update={"base_model": "another"})})
    reasoning = arm.model_copy(update={"reasoning": not arm.reasoning})
    found = [
        of(config.model_copy(update={"arms": {**config.arms, "zero_shot": one}}), "zero_shot")
        for one in (arm, slow, moved, reasoning)
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3
