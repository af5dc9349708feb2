"""The most similar labelled reviews as examples, and the leak of an index that contains the test set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.data import nearest_examples
from reviewtune.data.nearest_examples import NearestExamples
from reviewtune.errors import LeakError
from reviewtune.evaluation.arms import evaluate_arm
from reviewtune.evaluation.subject import ModelSubject

POOL = pd.DataFrame(
    {
        "text": ["parcel came late", "the parcel came very late again", "broken glass", "glass was broken in the box"],
        "label": ["late", "late", "broken", "broken"],
    }
)


def test_the_most_similar_reviews_are_chosen_the_most_similar_last() -> None:
    (late, broken) = NearestExamples(POOL, 2).of(["my parcel came late", "a broken glass"])
    assert {label for _, label in late} == {"late"}
    assert late[-1] == ("parcel came late", "late")
    assert broken[-1] == ("broken glass", "broken")


def test_asking_for_more_examples_than_the_pool_has_returns_all() -> None:
    assert len(NearestExamples(POOL, 20).of(["x"])[0]) == len(POOL)


def test_the_index_is_made_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made, fitted = [], nearest_examples._fitted

    def counted(texts: Sequence[str], count: int) -> Any:
        made.append(count)
        return fitted(texts, count)

    monkeypatch.setattr(nearest_examples, "_fitted", counted)
    examples = NearestExamples(POOL, 2)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(examples.of, [["my parcel came late"]] * 8))
    assert len(made) == 1
    assert found == [NearestExamples(POOL, 2).of(["my parcel came late"])] * 8
    assert examples.of([]) == []


def arms_with_retrieval(config: Config) -> Config:
    nearest = config.arms["few_shot"].model_copy(update={"examples": "nearest", "shots": 2})
    return config.model_copy(update={"arms": {**config.arms, "retrieved": nearest}})


def test_each_review_gets_its_own_examples(config: Config) -> None:
    arm = arms_with_retrieval(config).arms["retrieved"]
    assert isinstance(arm, PromptArmConfig)
    data = config.data.model_copy(update={"labels": {"late": "came late", "broken": "came broken"}})
    subject = ModelSubject.of_arm("retrieved", arm, config.model_copy(update={"data": data}), POOL)
    late, broken = subject.chats(["my parcel came late", "a broken glass"])
    assert [message["role"] for message in late] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "parcel came late" in late[3]["content"]
    assert "broken glass" in broken[3]["content"]
    assert late[-1]["content"].endswith("my parcel came late")


@pytest.mark.parametrize(
    ("arm", "where"), [("retrieved", "the retrieval index"), ("few_shot", "the pool of few-shot examples")]
)
def test_an_index_or_a_pool_with_test_reviews_is_refused_by_name(
    tmp_path: Path, config: Config, arm: str, where: str
) -> None:
    """The classic mistake that scores 100 %: one file is the index and the test set."""
    texts = ["the parcel came four weeks late", "Glass was broken, in the box!", "colour is not what was ordered"]
    test = pd.DataFrame({"review_id": ["a", "b", "c"], "text": texts, "label": "no_issue", "hard": "0"})
    pool = pd.DataFrame({"text": [texts[0], "glass was broken in the box", "all fine"], "label": "no_issue"})
    write_json({"splits": {"test": {"sha256": "x"}}}, tmp_path / "manifest.json")
    with pytest.raises(LeakError, match=rf"2 test reviews, .* in {where}: a, b;") as caught:
        evaluate_arm(arm, arms_with_retrieval(config), pool, test, manifest=tmp_path / "manifest.json")
    assert "\n" not in str(caught.value)
