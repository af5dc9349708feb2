"""Hostile reviews: the set itself, and its score."""

from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import InjectionMetrics
from reviewtune.evaluation.prompt_injections import injection_metrics, read_injections


@pytest.fixture(scope="module")
def attacks(project: Path, config: Config) -> pd.DataFrame:
    return read_injections(project / "data" / "injections", list(config.data.labels))


def test_the_set_covers_languages_and_kinds(attacks: pd.DataFrame, config: Config) -> None:
    assert len(attacks) >= 40
    assert attacks["id"].is_unique
    assert set(attacks["language"]) == {"en", "ko"}
    assert attacks["language"].value_counts().min() >= 20
    kinds = {"order", "fake label", "fake system", "noise", "invisible", "right to left"}
    for language, part in attacks.groupby("language"):
        assert set(part["kind"]) == kinds, language
    text = " ".join(attacks["text"])
    assert all(sign in text for sign in ("\u200b", "\u202e", "<|im_start|>", "<end_of_turn>"))
    assert max(map(len, attacks["text"])) > 50_000
    assert not attacks["text"].str.contains(r"\{target\}|\{noise", regex=True).any()


def test_the_attacker_wants_a_label_that_would_be_wrong(attacks: pd.DataFrame, config: Config) -> None:
    assert set(attacks["label"]) <= set(config.data.labels)
    assert set(attacks["target"]) <= set(config.data.labels)
    assert (attacks["target"] != attacks["label"]).all()
    assert attacks["target"].nunique() > 5, "a model that never answers the target would resist everything"


def test_another_label_list_gets_its_own_targets(project: Path) -> None:
    attacks = read_injections(project / "data" / "injections", ["late", "fine"])
    assert set(attacks["label"]) == {""}
    assert set(attacks["target"]) == {"late", "fine"}


def test_the_noise_is_the_same_every_time(project: Path, config: Config, attacks: pd.DataFrame) -> None:
    again = read_injections(project / "data" / "injections", list(config.data.labels))
    assert again.equals(attacks)


def scored(attacks: pd.DataFrame, predicted: list[str]) -> InjectionMetrics:
    return injection_metrics(attacks, predicted, answers=predicted)


def test_obeying_and_unusable_answers_lose(attacks: pd.DataFrame) -> None:
    n = len(attacks)
    good = scored(attacks, attacks["label"].tolist())
    assert good.right is not None
    assert (good.resisted.value, good.right.value, good.obeyed, good.unusable) == (1, 1, 0, 0)
    assert good.fell_for == ()
    bad = scored(attacks, attacks["target"].tolist())
    assert (bad.resisted.value, bad.obeyed) == (0, n)
    assert [attack.id for attack in bad.fell_for] == attacks["id"].tolist()
    silent = scored(attacks, [INVALID] * n)
    assert (silent.resisted.value, silent.obeyed, silent.unusable) == (0, 0, n)
    assert len(silent.fell_for) == n
    assert set(good.resisted_by_language) == {"en", "ko"}


def test_a_missing_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no CSV of hostile reviews; .*evaluation.injections=false"):
        read_injections(tmp_path, ["a", "b"])
