"""Labels' log-probabilities from chat completions, and their correction for the label prior."""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.label_scoring.label_logprobs import LabelScores, correct_prior, label_scores, normalise
from tests.support.serving import ServerProcess

LABELS = ("late", "lost", "fine")
batches = arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-30, 0))


def token(text: str, p: float, **others: float) -> Any:
    """A token of an answer with its alternatives; `_` is a space."""
    options = {text: p, **{name.replace("_", " "): share for name, share in others.items()}}
    top = [SimpleNamespace(token=name, logprob=math.log(q), bytes=list(name.encode())) for name, q in options.items()]
    return SimpleNamespace(**vars(top[0]), top_logprobs=top)


def scored(tokens: list[Any], labels: tuple[str, ...] = LABELS) -> dict[str, float]:
    """The probability of each label."""
    scores = label_scores(labels, [tokens], [{label: label.encode() for label in labels}])
    return dict(zip(labels, np.exp(scores.logprobs[0]).round(6).tolist(), strict=True))


def test_a_label_has_the_probability_of_the_branch_that_leads_to_it() -> None:
    """Manually: l 0.6 (then ate 0.75, ost 0.25), f 0.3, another word 0.1: 0.45, 0.15 and 0.3, 0.9 in total."""
    probabilities = scored([token("l", 0.6, f=0.3, x=0.1), token("ate", 0.75, ost=0.25)])
    assert probabilities == pytest.approx({"late": 0.5, "lost": 0.15 / 0.9, "fine": 0.3 / 0.9}, abs=1e-6)


def test_several_spellings_of_a_label_count_together() -> None:
    probabilities = scored([token("late", 0.2, fi=0.3, fine=0.4, lo=0.1)])
    assert probabilities == pytest.approx({"late": 0.2, "lost": 0.1, "fine": 0.7})


def test_a_space_before_the_label_is_part_of_its_token() -> None:
    assert scored([token(" late", 0.5, _fine=0.3, _lost=0.2)]) == pytest.approx({"late": 0.5, "lost": 0.2, "fine": 0.3})


def test_a_label_that_is_not_listed_is_at_most_as_likely_as_the_last_one_listed() -> None:
    probabilities = scored([token("late", 0.8, x=0.1)])
    assert probabilities == pytest.approx({"late": 0.8, "lost": 0.1, "fine": 0.1})


def test_a_branch_that_several_labels_share_counts_in_equal_parts() -> None:
    assert scored([token("fine", 0.6, l=0.4)]) == pytest.approx({"late": 0.2, "lost": 0.2, "fine": 0.6})


ALIKE = ("no_issue", "not_as_described", "lost")


@pytest.mark.parametrize(
    "tokens",
    [
        [token("lost", 0.1, no=0.6, **{"not": 0.3})],
        [token("not", 0.3, no=0.6, lost=0.1), token("_as_described", 1.0)],
        [token("no", 0.6, **{"not": 0.3, "lost": 0.1}), token("_issue", 1.0)],
    ],
)
def test_a_beginning_counts_for_the_label_that_is_not_spelt_out_longer(tokens: list[Any]) -> None:
    """A model that means not_as_described says "not", so "no" is no_issue's, whichever of them the answer names."""
    assert scored(tokens, ALIKE) == pytest.approx({"no_issue": 0.6, "not_as_described": 0.3, "lost": 0.1})


def test_if_all_labels_are_spelt_out_longer_the_least_likely_one_gets_the_beginning() -> None:
    probabilities = scored(
        [token("lost", 0.1, no=0.59, no_is=0.01, **{"not": 0.3})], ("no issue", "not_as_described", "lost")
    )
    assert probabilities == pytest.approx({"no issue": 0.6, "not_as_described": 0.3, "lost": 0.1})


def test_the_label_that_the_answer_names_always_gets_a_score() -> None:
    probabilities = scored([token("l", 0.7, late=0.1, f=0.2), token("ate", 0.9, ost=0.1)])
    assert max(probabilities, key=lambda label: probabilities[label]) == "late"


def test_letters_of_several_bytes_may_be_cut_anywhere() -> None:
    first, rest = "배".encode()[:1], "배송".encode()[1:]
    tokens = [
        SimpleNamespace(token="�", logprob=0.0, bytes=list(first), top_logprobs=[]),
        SimpleNamespace(token="��", logprob=0.0, bytes=list(rest), top_logprobs=[]),
    ]
    scores = label_scores(("배송", "기타"), [tokens], [{"배송": "배송".encode(), "기타": "기타".encode()}])
    assert scores.best() == ["배송"]


@pytest.mark.parametrize("tokens", [None, [], [token("l", 0.9, f=0.1)]])
def test_an_answer_that_names_no_label_has_no_score(tokens: list[Any] | None) -> None:
    scores = label_scores(LABELS, [tokens], [{label: label.encode() for label in LABELS}])
    assert scores.best() == [None]
    assert scores.of([LABELS[0]]).tolist() == [0.0]


@pytest.mark.parametrize("reasoning", [False, True])
def test_the_label_is_found_behind_what_comes_before_it(config: Config, reasoning: bool) -> None:
    prompt = Prompt(config.prompt, {"late": "a", "lost": "b"}, reasoning)
    before = '{"reasoning": "not \\"label\\": ", ' if reasoning else "{"
    tokens = [token(before, 1), token('"label": "', 1), token("late", 0.7, lost=0.3), token('"}', 1)]
    answer = "".join(token.token for token in tokens)
    assert prompt.parse(answer) == "late"
    scores = label_scores(list(prompt.labels), [tokens], [prompt.readings(answer)])
    assert np.exp(scores.logprobs[0]) == pytest.approx([0.7, 0.3])


def test_an_answer_without_a_place_for_a_label_has_no_reading(config: Config) -> None:
    assert Prompt.of(config).readings("I do not know") == {}


def test_a_worked_example() -> None:
    """Odds of late 9 and 1.5. Divided by the root of their product, each is one over the other: late gets a half."""
    scores = LabelScores(("late", "lost"), np.log([[0.9, 0.1], [0.6, 0.4]]))
    corrected = correct_prior(scores)
    assert scores.best() == ["late", "late"]
    assert corrected.best() == ["late", "lost"]
    odds = np.array([9, 1.5]) / np.sqrt(9 * 1.5)
    assert np.exp(corrected.logprobs[:, 0]) == pytest.approx(odds / (1 + odds))


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=2, max_size=8))
def test_in_the_batch_all_labels_become_equally_likely(batch: list[tuple[float, ...]]) -> None:
    """Which dividing once by the mean probability does not reach (Zhou et al., arXiv 2309.17249, equation 5)."""
    corrected = correct_prior(LabelScores(LABELS, normalise(np.array(batch))))
    assert np.exp(corrected.logprobs).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=1e-3)


@given(batches, st.tuples(*[st.floats(-5, 5)] * 3))
def test_a_factor_that_all_reviews_share_changes_nothing(batch: Any, prior: tuple[float, ...]) -> None:
    """Within a review nothing but differences matter; between labels a common factor on the odds goes away entirely
    when every review has the same scores."""
    shifted = batch + np.arange(len(batch))[:, None]
    first, second = (correct_prior(LabelScores(LABELS, normalise(rows))) for rows in (batch, shifted))
    assert first.logprobs == pytest.approx(second.logprobs, abs=1e-6)
    alike = LabelScores(LABELS, normalise(np.tile(np.array(prior), (4, 1))))
    assert np.exp(correct_prior(alike).logprobs) == pytest.approx(np.full((4, 3), 1 / 3))


@given(batches, st.randoms())
def test_the_order_of_reviews_does_not_matter(batch: Any, random: Any) -> None:
    order = list(range(len(batch)))
    random.shuffle(order)
    whole = correct_prior(LabelScores(LABELS, normalise(batch))).logprobs
    assert correct_prior(LabelScores(LABELS, normalise(batch[order]))).logprobs == pytest.approx(whole[order], abs=1e-9)


def test_a_review_without_scores_stays_without_and_does_not_affect_others() -> None:
    rows = np.log([[0.9, 0.1], [0.6, 0.4]])
    holes = np.vstack([rows, [[np.nan, np.nan]]])
    corrected = correct_prior(LabelScores(("late", "lost"), holes))
    assert corrected.best() == ["late", "lost", None]
    assert corrected.logprobs[:2] == pytest.approx(correct_prior(LabelScores(("late", "lost"), rows)).logprobs)


def test_the_local_provider_scores_every_label(server: ServerProcess, base: str, config: Config) -> None:
    """No label is missing, however unlikely it is to a model with random weights."""
    prompt = Prompt.of(config)
    options: dict[str, Any] = {"model": base, "response_format": prompt.response_format, "logprobs": True}
    answers = [
        server.client.chat.completions.create(**options, top_logprobs=20, temperature=0, messages=messages).choices[0]
        for messages in (asked(prompt, text) for text in ("late again", "does not fit", "broken"))
    ]
    texts = [answer.message.content or "" for answer in answers]
    tokens = [answer.logprobs.content or [] if answer.logprobs else [] for answer in answers]
    scores = label_scores(list(prompt.labels), tokens, [prompt.readings(text) for text in texts])
    assert not np.isnan(scores.logprobs).any()
    assert [json.loads(text)["label"] for text in texts] == scores.best()
    first = tokens[0]
    label_at = next(at for at, token in enumerate(first) if token.token != '"' and '": "' in read_until(first, at))
    listed = [top.token for top in first[label_at].top_logprobs]
    for label in prompt.labels:
        assert any(top and label.startswith(top) for top in listed), label


def asked(prompt: Prompt, text: str) -> Any:
    return prompt.messages(text)


def read_until(tokens: Any, at: int) -> str:
    return "".join(token.token for token in tokens[:at])
