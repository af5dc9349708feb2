"""One answer read as the evaluation reads a table of them: same labels, same confidences."""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.analyzer.answer_reader import AnswerReader, Verdicts
from reviewtune.analyzer.served_model import Calibration
from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.label_scoring.answer_scores import label_row, normalised, without_prior
from reviewtune.evaluation.label_scoring.decide import ScoredAnswers, decide
from reviewtune.evaluation.label_scoring.label_logprobs import (
    LabelScores,
    correct_prior,
    label_prior,
    label_scores,
    normalise,
)
from reviewtune.providers.completion import Answer
from reviewtune.providers.pricing import Usage

SAME = Calibration(confidence=(0.0, 1.0), accuracy=(0.0, 1.0))
LABELS = ("late", "lost", "fine")
shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


def prompt(config: Config) -> Prompt:
    return Prompt(config.prompt.model_copy(update={"answer": "json"}), dict.fromkeys(LABELS, "x"))


def answer(weights: list[float], text: str | None = None) -> Answer:
    """An answer with the most likely label, and the labels' probabilities in these proportions."""
    options = {label: weight / sum(weights) for label, weight in zip(LABELS, weights, strict=True)}
    best = max(options, key=lambda label: options[label])
    words = [_word('{"label": "', {'{"label": "': 1.0}), _word(best, options), _word('"}', {'"}': 1.0})]
    content = json.dumps({"label": best}) if text is None else text
    return Answer(content, "stop", Usage(), logprobs=tuple(words))


def _word(text: str, options: dict[str, float]) -> Any:
    top = [SimpleNamespace(token=word, logprob=math.log(p), bytes=list(word.encode())) for word, p in options.items()]
    return SimpleNamespace(token=text, logprob=math.log(options[text]), bytes=list(text.encode()), top_logprobs=top)


@given(st.lists(shares, min_size=1, max_size=6))
def test_a_served_model_decides_as_its_evaluation(config: Config, batch: list[list[float]]) -> None:
    """Raw and corrected: the label and the confidence of each answer are those of predictions.csv."""
    form, known = prompt(config), [answer([3, 2, 1]), answer([5, 1, 1]), answer([4, 1, 3])]
    answers = [answer(weights) for weights in batch]
    scores = {
        name: label_scores(LABELS, [a.logprobs for a in part], [form.readings(a.text) for a in part])
        for name, part in (("valid", known), ("test", answers))
    }
    for scoring in ("raw", "corrected"):
        tables = {
            name: ScoredAnswers(
                labels=["late"] * len(part),
                rows=pd.DataFrame({"predicted": [form.parse(a.text) for a in part]}),
                scores=scores[name],
            )
            for name, part in (("valid", known), ("test", answers))
        }
        decision = decide(tables["test"], tables["valid"], scoring)
        prior = label_prior(scores["valid"]) if scoring == "corrected" else None
        reader = AnswerReader(prompt=form, verdicts=Verdicts(model="m", calibration=SAME), prior=prior)
        read = [reader.read(a) for a in answers]
        assert [result.label for result in read] == decision.test["predicted"].tolist()
        assert [result.confidence for result in read] == pytest.approx(decision.test["confidence"].tolist(), abs=1e-12)


@given(st.lists(shares, min_size=1, max_size=5), shares)
def test_plain_floats_give_what_numpy_gives(batch: list[list[float]], review: list[float]) -> None:
    others = LabelScores(LABELS, normalise(np.log(np.array(batch))))
    scores = LabelScores(LABELS, normalise(np.log(np.array([review]))))
    row = normalised([math.log(share) for share in review])
    assert row == pytest.approx(scores.logprobs[0].tolist(), abs=1e-12)
    prior = list(label_prior(others).values())
    assert without_prior(row, prior) == pytest.approx(correct_prior(scores, others).logprobs[0].tolist(), abs=1e-12)


def test_sure_is_what_reaches_the_threshold(config: Config) -> None:
    calibration = Calibration(confidence=(0.5, 1.0), accuracy=(0.4, 0.9))
    verdicts = Verdicts(model="m", version="3", calibration=calibration, threshold=0.8)
    reader = AnswerReader(prompt=prompt(config), verdicts=verdicts)
    sure, doubtful = reader.read(answer([0.9, 0.05, 0.05])), reader.read(answer([0.8, 0.1, 0.1]))
    assert (sure.label, sure.sure, sure.model, sure.version) == ("late", True, "m", "3")
    assert sure.confidence == pytest.approx(0.8)
    assert (doubtful.label, doubtful.sure) == ("late", False)
    assert doubtful.confidence == pytest.approx(0.7)


def test_without_log_probabilities_or_calibration_nothing_is_sure(config: Config) -> None:
    form, bare = prompt(config), Answer('{"label": "late"}', "stop", Usage())
    known = Verdicts(model="m", calibration=SAME, threshold=0.0)
    for reader, given_answer in (
        (AnswerReader(prompt=form, verdicts=known), bare),
        (AnswerReader(prompt=form, verdicts=Verdicts(model="m")), answer([1, 1, 1])),
    ):
        result = reader.read(given_answer)
        assert (result.label, result.confidence, result.sure) == ("late", None, False)


def test_an_answer_without_a_label_says_why(config: Config) -> None:
    reader = AnswerReader(prompt=prompt(config), verdicts=Verdicts(model="m", calibration=SAME, threshold=0.0))
    result = reader.read(answer([1, 1, 1], text="I do not know"))
    assert (result.label, result.confidence, result.sure) == (None, None, False)
    assert result.why == "no label of the list (finish reason: stop)"


def test_a_probability_of_zero_is_no_fault(config: Config) -> None:
    """Servers send -Infinity or -9999 for what the grammar rules out."""
    word = _word("late", {"late": 1.0, "lost": 1e-9})
    word.top_logprobs[1].logprob = -math.inf
    assert label_row([word], {label: label.encode() for label in LABELS})[0] == 0.0
    lone = Answer('{"label": "late"}', "stop", Usage(), logprobs=(_word('{"label": "', {'{"label": "': 1.0}), word))
    result = AnswerReader(prompt=prompt(config), verdicts=Verdicts(model="m", calibration=SAME)).read(lone)
    assert (result.label, result.confidence) == ("late", 1.0)
