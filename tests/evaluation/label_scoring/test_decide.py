"""Raw or corrected: the validation reviews choose, and no label depends on the other test reviews."""

import numpy as np
import pandas as pd
import pytest

from reviewtune.core.config.section import LabelScoring
from reviewtune.evaluation.label_scoring.decide import Decision, ScoredAnswers, decide
from reviewtune.evaluation.label_scoring.label_logprobs import LabelScores, normalise
from reviewtune.evaluation.metrics.classification import INVALID

LABELS = ("late", "lost", "broken")


def answers(truth: list[int], seed: int, *, bias: tuple[float, ...] = (0.0, 0.0, 0.0)) -> ScoredAnswers:
    """Answers of a model that sees some evidence of the true label and adds a bias of its own."""
    evidence = np.random.default_rng(seed).normal(size=(len(truth), 3))
    evidence[np.arange(len(truth)), truth] += 1.5
    scores = LabelScores(LABELS, normalise(evidence + np.array(bias)))
    return ScoredAnswers(
        labels=[LABELS[number] for number in truth], rows=pd.DataFrame({"predicted": scores.best()}), scores=scores
    )


def decided(truth: list[int], scoring: LabelScoring, bias: tuple[float, ...]) -> Decision:
    return decide(answers(truth, 1, bias=bias), answers(truth, 2, bias=bias), scoring)


EQUAL, BIASED = [0, 1, 2] * 40, (3.0, 0.0, 0.0)  # labels of equal frequency, a model that prefers the first
RARE, HONEST = [0] * 100 + [1] * 16 + [2] * 4, (3.2, 1.4, 0.0)  # a model that knows how frequent labels are


@pytest.mark.parametrize(
    ("truth", "bias", "choice"), [(EQUAL, BIASED, "corrected"), (RARE, HONEST, "raw")], ids=["helps", "hurts"]
)
def test_auto_corrects_where_that_is_better_on_the_validation_reviews(
    truth: list[int], bias: tuple[float, ...], choice: str
) -> None:
    auto = decided(truth, "auto", bias)
    assert auto.by == choice
    labels = [LABELS[number] for number in truth]
    right = {way: (auto.valid[way] == labels).sum() for way in ("as_answered", "prior_corrected")}
    assert right["prior_corrected"] > right["as_answered"] + 10 or choice == "raw"
    assert right["as_answered"] > right["prior_corrected"] + 10 or choice == "corrected"
    way = "prior_corrected" if choice == "corrected" else "as_answered"
    for rows in (auto.test, auto.valid):
        assert rows["predicted"].tolist() == rows[way].tolist()


@pytest.mark.parametrize(("truth", "bias"), [(EQUAL, BIASED), (RARE, HONEST)])
def test_an_explicit_setting_is_not_overruled(truth: list[int], bias: tuple[float, ...]) -> None:
    raw, corrected = decided(truth, "raw", bias), decided(truth, "corrected", bias)
    assert (raw.by, corrected.by) == ("raw", "corrected")
    assert raw.test["predicted"].tolist() == raw.test["as_answered"].tolist()
    assert corrected.test["predicted"].tolist() == corrected.test["prior_corrected"].tolist()
    assert raw.test[["as_answered", "prior_corrected"]].equals(corrected.test[["as_answered", "prior_corrected"]])


def test_of_two_equal_ways_the_answered_label_counts() -> None:
    auto = decided([0, 1, 2], "auto", (0.0, 0.0, 0.0))
    assert (auto.valid["as_answered"] == auto.valid["prior_corrected"]).all()
    assert auto.by == "raw"


def test_without_validation_reviews_the_answered_label_counts() -> None:
    nothing = ScoredAnswers(
        labels=[], rows=pd.DataFrame({"predicted": pd.Series(dtype=str)}), scores=LabelScores(LABELS, np.empty((0, 3)))
    )
    assert decide(answers(EQUAL, 1, bias=BIASED), nothing, "auto").by == "raw"


def test_a_label_does_not_depend_on_the_other_test_reviews() -> None:
    valid, whole = answers(EQUAL, 2, bias=BIASED), answers(EQUAL, 1, bias=BIASED)
    alone = ScoredAnswers(
        labels=whole.labels[:1],
        rows=whole.rows[:1],
        scores=LabelScores(LABELS, whole.scores.logprobs[:1]),
    )
    first, only = (decide(part, valid, "corrected").test.iloc[0] for part in (whole, alone))
    assert first.to_dict() == only.to_dict()


@pytest.mark.parametrize(("truth", "bias"), [(EQUAL[:12], BIASED), (RARE, HONEST)])
def test_a_sweep_scores_the_validation_reviews_as_the_pipeline_does(truth: list[int], bias: tuple[float, ...]) -> None:
    """Each review counts once in the batch whose prior is corrected."""
    valid = answers(truth, 2, bias=bias)
    sweep, pipeline = decide(valid, valid, "auto"), decide(answers(truth, 1, bias=bias), valid, "auto")
    assert sweep.by == pipeline.by
    assert sweep.test.equals(pipeline.valid)


def test_an_unusable_answer_stays_unusable() -> None:
    whole = answers(EQUAL, 1, bias=BIASED)
    whole.rows.loc[0, "predicted"] = INVALID
    row = decide(whole, answers(EQUAL, 2, bias=BIASED), "corrected").test.iloc[0]
    assert (row["predicted"], row["prior_corrected"], row["confidence"]) == (INVALID, INVALID, 0)
