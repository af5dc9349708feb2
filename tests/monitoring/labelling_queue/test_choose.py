"""Which reviews are chosen: the sample is unbiased, the doubtful ones come first, nothing is asked twice."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.data.splits import alike, near_duplicates
from reviewtune.monitoring.labelling_queue.choose import NewTopic, Pick, Pool, Prediction, choose

WORDS = (
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "hammer", "island", "jungle", "kitten",
    "ladder", "magnet", "needle", "orange", "pencil", "quartz", "rocket", "saddle", "temple", "unicorn", "valley",
)  # fmt: skip


def text(seed: int) -> str:
    """Eight words; those of two seeds hardly agree."""
    return " ".join(random.Random(seed).sample(WORDS, 8))


def pool(texts: list[str], confidence: list[float | None] | None = None, known: list[str] | None = None) -> Pool:
    values = confidence or [0.5] * len(texts)
    return Pool(texts, [Prediction("a", value) for value in values], known or [], similarity=0.9)


def texts_of(chosen: list[Pick], source: Pool) -> list[str]:
    return [source.texts[pick.position] for pick in chosen]


def test_the_least_sure_are_chosen_after_the_sample() -> None:
    source = pool([text(n) for n in range(60)], [n / 60 for n in range(60)])
    chosen = choose(source, size=20, audit=5)
    sample = {pick.position for pick in chosen if pick.why == "audit"}
    doubtful = {pick.position for pick in chosen if pick.why == "least sure"}
    assert len(sample) == 5
    assert doubtful == set([n for n in range(60) if n not in sample][:15])


def test_reviews_without_a_label_come_first_and_without_confidence_chance_decides() -> None:
    texts = [text(n) for n in range(30)]
    predictions = [Prediction(None if n in (7, 8) else "a", None) for n in range(30)]
    chosen = choose(Pool(texts, predictions, [], 0.9), size=10, audit=0)
    assert {pick.position for pick in chosen if pick.why == "no label"} == {7, 8}
    assert sum(pick.why == "random" for pick in chosen) == 8


def test_each_new_topic_has_its_turn() -> None:
    source = pool([text(n) for n in range(60)])
    topics = [NewTopic(("app", "login"), (50, 51, 52, 53)), NewTopic((), (40, 41))]
    chosen = choose(source, size=16, audit=0, topics=topics)
    reasons = {pick.position: pick.why for pick in chosen if pick.why.startswith("new topic")}
    assert reasons == {50: "new topic: app, login", 51: "new topic: app, login", 40: "new topic", 41: "new topic"}


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=60),
    st.lists(st.integers(0, 20), max_size=8),
    st.integers(1, 30),
    st.integers(0, 30),
    st.integers(0, 9),
)
def test_nothing_is_asked_twice(numbers: list[int], known: list[int], size: int, audit: int, seed: int) -> None:
    """Whatever is repeated in the file or known already."""
    variants = [text(number) + "!" * (place % 3) for place, number in enumerate(numbers)]
    source = pool(variants, [number / 16 for number in numbers], [text(number) for number in known])
    chosen = choose(source, size=size, audit=audit, seed=seed)
    asked = texts_of(chosen, source)
    assert len(chosen) <= size
    assert not (asked and near_duplicates(asked, 0.9))
    assert not (source.known and asked and alike(asked, list(source.known), 0.9))
    unknown = [number for number in numbers if number not in known]
    assert sum(pick.weight for pick in chosen) == min(audit, size, len(unknown))
    assert len(chosen) == min(size, len(set(unknown)))
    assert chosen == choose(source, size=size, audit=audit, seed=seed)


def test_the_accuracy_of_the_sample_is_that_of_the_file() -> None:
    """60 of 100 reviews are copies of two texts. Their labels are right, those of 25 of the other 40 too: 85 of 100."""
    texts = [text(1000)] * 40 + [text(1001)] * 20 + [text(n) for n in range(40)]
    right = np.array([True] * 60 + [True] * 25 + [False] * 15)
    source = pool(texts)
    measured = []
    for seed in range(200):
        sample = [pick for pick in choose(source, size=15, audit=10, seed=seed) if pick.weight]
        measured.append(sum(pick.weight for pick in sample if right[pick.position]) / 10)
    spread = np.std(measured) / np.sqrt(len(measured))
    assert np.mean(measured) == pytest.approx(0.85, abs=3 * spread)
    assert spread < 0.02
