"""The champion on new test reviews: asked as applications ask it."""

import math
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.deployment.opponent import as_deployed
from reviewtune.errors import BudgetError, LeakError
from tests.support.odd_server import CHAT, odd_server
from tests.support.served import provided_by, scored_completion, served_folder

REVIEWS = pd.DataFrame({"review_id": ["r1", "r2"], "text": ["late and wet", "it rattles"], "label": ["a", "b"]})


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("is_corrected", [True, False])
def test_the_champion_answers_with_its_own_prior(config: Config, tmp_path: Path, is_corrected: bool) -> None:
    """The model says the first label with 60 %, but it nearly always does: corrected, it means the second one."""
    first, second, *_ = labels = list(config.data.labels)
    often = {first: 0.9, second: 0.05}
    prior = {label: math.log(often.get(label, 0.01)) for label in labels} if is_corrected else None
    with odd_server({CHAT: lambda _: scored_completion(first, 0.6, second)}) as server:
        settings = provided_by(config, server.base_url)
        given = as_deployed(served_folder(tmp_path / "served", settings, label_prior=prior), REVIEWS)
    assert given["predicted"].tolist() == [second if is_corrected else first] * 2
    assert given["review_id"].tolist() == ["r1", "r2"]


def test_a_higher_budget_lets_the_same_champion_be_asked(config: Config, tmp_path: Path) -> None:
    with odd_server({CHAT: lambda _: scored_completion("no_issue")}) as server:
        settings = provided_by(config, server.base_url, priced_as=next(iter(config.prices.models)))
        spent = settings.evaluation.model_copy(update={"budget_usd": 1e-9})
        folder = served_folder(tmp_path / "served", settings.model_copy(update={"evaluation": spent}))
        with pytest.raises(BudgetError):
            as_deployed(folder, REVIEWS, limits=spent)
        given = as_deployed(folder, REVIEWS, limits=spent.model_copy(update={"budget_usd": 1.0}))
    assert given["predicted"].tolist() == ["no_issue"] * 2


def test_a_champion_that_knows_test_reviews_is_not_measured_on_them(config: Config, tmp_path: Path) -> None:
    folder = served_folder(tmp_path / "served", config, arm="linear", kind="linear", calibration=None)
    REVIEWS[["text", "label"]].iloc[:1].to_csv(folder / "training_reviews.csv", index=False)
    with pytest.raises(
        LeakError, match=r"1 in its training reviews: r1; .* the data/frozen_splits.csv of its promotion"
    ):
        as_deployed(folder, REVIEWS)
