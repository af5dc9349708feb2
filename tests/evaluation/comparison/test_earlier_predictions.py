"""Predictions of an earlier evaluation are matched with the reviews of a new one, or it is said why they cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import DataConfig
from reviewtune.data.sides.review_key import review_keys
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.earlier_predictions import (
    earlier_predictions,
    paired_change,
    shared_changes,
    to_text,
)
from reviewtune.evaluation.earlier_metrics import EarlierMetrics
from reviewtune.evaluation.ground_truth import GroundTruth
from reviewtune.evaluation.metrics.classification import INVALID

LABELS = ("late", "broken")
N = 40
IDS = [f"line-{number + 2}" for number in range(N)]
TRUE = [LABELS[number % 2] for number in range(N)]
OLD = ["late" if number % 4 else "broken" for number in range(N)]
ACCURACY = sum(a == b for a, b in zip(TRUE, OLD, strict=True)) / N


@pytest.fixture
def truth(config: Config) -> GroundTruth:
    reviews = pd.DataFrame({"review_id": IDS, "text": [f"parcel {i}" for i in range(N)], "label": TRUE})
    data: DataConfig = config.data.model_copy(update={"labels": dict.fromkeys(LABELS, "")})
    return GroundTruth(reviews, data, "sha")


Write = Callable[..., EarlierMetrics]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write predictions.csv and return the metrics next to it."""

    def written(table: dict[str, Any], *, sha: str | None = "sha", accuracy: float = ACCURACY) -> EarlierMetrics:
        pd.DataFrame(table).to_csv(tmp_path / "predictions.csv", index=False)
        scores = {"accuracy": accuracy, "precision": 0.5, "recall": 0.5, "f1": 0.5}
        return EarlierMetrics(tmp_path / "metrics.json", scores, N, sha)

    return written


OURS = {"review_id": IDS, "label": TRUE, "predicted": OLD}


def test_predictions_on_the_same_file_are_matched_by_id(write: Write, truth: GroundTruth) -> None:
    assert earlier_predictions(write(OURS), truth) == dict(zip(IDS, OLD, strict=True))
    assert earlier_predictions(write(OURS, sha=None), truth) == dict(zip(IDS, OLD, strict=True))


def test_predictions_on_another_file_are_matched_by_text(write: Write, truth: GroundTruth) -> None:
    table = {"review_text": [f" parcel  {i} " for i in range(5, N + 5)], "predicted": OLD, "review_id": IDS}
    matched = earlier_predictions(write(table, sha="other"), truth)
    assert matched == dict(zip(IDS[5:], OLD, strict=False))


def test_predictions_on_another_file_are_matched_by_the_hash_of_the_text(write: Write, truth: GroundTruth) -> None:
    """The ids mean other reviews there; case and punctuation do not matter."""
    texts = [f"Parcel {i}!" for i in range(5, N + 5)]
    keys = review_keys(texts, truth.data.language)
    matched = earlier_predictions(write({**OURS, "review_sha256_v1": keys}, sha="other"), truth)
    assert matched == dict(zip(IDS[5:], OLD, strict=False))


def test_the_scores_of_both_are_those_on_the_shared_reviews(truth: GroundTruth) -> None:
    """Known answer: of ten shared reviews the earlier model had 5 right, the new one has 8."""
    earlier = dict(zip(IDS[:10], TRUE[:5] + [INVALID] * 5, strict=True))
    answers = [*TRUE[:8], *("broken" if label == "late" else "late" for label in TRUE[8:])]
    changes = shared_changes(truth.reviews.assign(predicted=answers), earlier, LABELS)
    assert changes[0] == ("Accuracy", "50.0 %", "80.0 %", "+30.0 points")


def test_equal_ids_of_another_file_match_nothing(write: Write, truth: GroundTruth) -> None:
    with pytest.raises(DataError, match=r"no review of .*predictions.csv can be matched .* neither by id nor by text"):
        earlier_predictions(write(OURS, sha="other"), truth)
    swapped = {**OURS, "label": TRUE[::-1]}
    accuracy = sum(a == b for a, b in zip(TRUE[::-1], OLD, strict=True)) / N
    with pytest.raises(DataError, match="neither by id nor by text"):
        earlier_predictions(write(swapped, sha=None, accuracy=accuracy), truth)


def test_predictions_of_another_evaluation_are_not_used(write: Write, truth: GroundTruth) -> None:
    with pytest.raises(DataError, match=r"is from another evaluation than metrics\.json: its accuracy is 0"):
        earlier_predictions(write(OURS, accuracy=ACCURACY + 0.01), truth)


def test_the_test_counts_the_reviews_of_both(write: Write, truth: GroundTruth) -> None:
    earlier = earlier_predictions(write({**OURS, "predicted": ["no such label"] * N}, accuracy=0.0), truth)
    new = truth.reviews.assign(predicted=TRUE).iloc[: N - 10]
    change = paired_change(new, earlier, LABELS, seed=1, resamples=200)
    assert (change.n, change.test.verdict) == (30, "better")
    assert change.test.difference.value == 1
    text = to_text(change)
    assert "on 30 reviews of both evaluations: accuracy +100.0 points [" in text
    assert "30 right only now, 0 right only before, McNemar's test p < 0.001: better" in text
    assert "can show a difference" not in text


def test_an_undecided_test_says_what_these_reviews_can_show(write: Write, truth: GroundTruth) -> None:
    earlier = earlier_predictions(write(OURS), truth)
    new = truth.reviews.assign(predicted=["broken"] * N)  # other errors than those of OLD
    text = to_text(paired_change(new, earlier, LABELS, seed=1, resamples=200))
    assert "undecided; these reviews can show a difference of about" in text
