"""Splits: every review in one split, labels in proportion, near-duplicates together, a stable test split."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import SplitConfig
from reviewtune.data.leakage import refuse_leak
from reviewtune.data.reviews import prepare
from reviewtune.data.splits import Splits, alike, near_duplicates, split
from reviewtune.errors import DataError, LeakError
from tests.support.unbalanced import COUNTS, tickets
from tests.support.unbalanced import LABELS as TICKET_LABELS

WORDS = ["parcel", "late", "broken", "button", "colour", "refund", "seller", "photo", "seam", "charger", "glass", "lid"]


@pytest.fixture(scope="module")
def reviews(project: object, config: Config) -> pd.DataFrame:
    return prepare(config.data.path, config.data).reviews


@pytest.fixture(autouse=True)
def _in_project(project: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(project))


def invented(seed: int, n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=9)) + f" {i * 7919}" for i in range(n)]
    return pd.DataFrame({"review_id": [str(i) for i in range(n)], "text": texts, "label": ["a", "b", "c"] * (n // 3)})


def ids(splits: Splits) -> list[set[str]]:
    return [set(part["review_id"]) for part in splits]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), test=st.floats(0.1, 0.5), validation=st.floats(0.1, 0.5))
def test_each_review_is_in_exactly_one_split(seed: int, test: float, validation: float) -> None:
    reviews = invented(seed % 1000)
    parts = ids(
        split(reviews, SplitConfig(test=test, validation=validation, seed=seed, similarity=0.9), train_size="all")
    )
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == len(reviews)


def test_labels_are_in_proportion_on_our_data(project: object, config: Config) -> None:
    reviews = prepare(config.data.path, config.data).reviews
    parts = split(reviews, config.split, train_size="all")
    assert [len(part) for part in parts] == [461, 116, 193]
    for part, low, high in zip(parts, (41, 10, 17), (43, 11, 18), strict=True):
        assert part["label"].value_counts().between(low, high).all()


def test_near_duplicates_are_in_one_split() -> None:
    reviews = invented(1, 60)
    twins = reviews.assign(review_id="t" + reviews["review_id"], text=reviews["text"] + "!")
    together = pd.concat([reviews, twins], ignore_index=True)
    for seed in range(5):
        parts = ids(split(together, SplitConfig(test=0.3, validation=0.3, seed=seed, similarity=0.9), train_size="all"))
        assert all({f"t{name}" for name in part if name[0] != "t"} <= part for part in parts)


def test_the_test_split_does_not_depend_on_the_training_size(config: Config) -> None:
    reviews = prepare(config.data.path, config.data).reviews
    sizes: list[int | str] = [50, 100, 300, "all"]
    splits = [split(reviews, config.split, train_size=size) for size in sizes]
    assert all(each.test.equals(splits[0].test) and each.valid.equals(splits[0].valid) for each in splits)
    trains = [set(each.train["review_id"]) for each in splits]
    assert [len(train) for train in trains] == [50, 100, 300, 461]
    assert all(small < large for small, large in itertools.pairwise(trains))
    assert splits[0].train["label"].value_counts().between(4, 5).all()


def test_too_large_a_training_size_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match=r"data.train_size=5000: only \d+ training reviews"):
        split(invented(0), config.split, train_size=5000)


def test_a_share_too_small_for_the_labels_is_refused() -> None:
    with pytest.raises(DataError, match=r"split.test=0.01"):
        split(invented(0), SplitConfig(test=0.01, validation=0.2, seed=1, similarity=0.9), train_size="all")


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=6), st.text(min_size=4, max_size=30))
def test_the_similarity_of_two_texts_does_not_depend_on_others(others: list[str], text: str) -> None:
    alone = {(p.left, p.right): p.similarity for p in alike([text], [text + "x"], 0.01)}
    among = {(p.left, p.right): p.similarity for p in alike([text, *others], [text + "x", *others], 0.01)}
    assert alone.get((0, 0), 0) == pytest.approx(among.get((0, 0), 0))


def test_near_duplicates_lists_each_pair_once() -> None:
    pairs = near_duplicates(["the same text", "another one", "the same text", "the same  text"], 0.99)
    assert sorted((p.left, p.right) for p in pairs) == [(0, 2), (0, 3), (2, 3)]


def test_a_leak_is_refused_with_the_rows_named() -> None:
    test = pd.DataFrame({"review_id": ["t1", "t2"], "text": ["Box came crushed and wet.", "All fine, thank you."]})
    refuse_leak(test, {"the pool": ["something else entirely"], "nothing": []}, similarity=0.9)
    with pytest.raises(LeakError, match=r"1 test review.*the pool: t1"):
        refuse_leak(test, {"the pool": ["box came crushed and wet!"]}, similarity=0.9)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31 - 1),
    test=st.floats(0.2, 0.5),
    validation=st.floats(0.2, 0.5),
    rare=st.lists(st.integers(3, 6), min_size=1, max_size=4),
)
def test_every_label_is_in_every_split(seed: int, test: float, validation: float, rare: list[int]) -> None:
    counts = dict(zip(TICKET_LABELS, [*rare, 30, 20], strict=False))
    parts = split(
        tickets(counts), SplitConfig(test=test, validation=validation, seed=seed, similarity=0.9), train_size="all"
    )
    for part in parts:
        assert set(part["label"]) == set(counts)


def test_labels_of_5_to_120_reviews_are_split(config: Config) -> None:
    parts = split(tickets(), config.split, train_size="all")
    assert [part["label"].nunique() for part in parts] == [25, 25, 25]
    rare = [label for label, n in COUNTS.items() if n == 5]
    for part, n in zip(parts, (3, 1, 1), strict=True):
        assert part["label"].value_counts()[rare].tolist() == [n] * len(rare)


def test_labels_that_cannot_be_in_every_split_are_named(config: Config) -> None:
    counts = {"billing": 2, "login": 30, "refund": 1}
    with pytest.raises(DataError, match=r"3 distinct reviews of each label .* fewer of: billing 2, refund 1; label"):
        split(tickets(counts), config.split, train_size="all")


def test_near_duplicates_of_a_rare_label_count_once(config: Config) -> None:
    reviews = tickets({"billing": 4, "login": 30})
    reviews.loc[:1, "text"] = reviews["text"][3]
    with pytest.raises(DataError, match=r"near-duplicates count once.* fewer of: billing 2; label"):
        split(reviews, config.split, train_size="all")


def test_a_validation_split_too_small_for_the_labels_is_refused(config: Config) -> None:
    counts = dict.fromkeys(TICKET_LABELS, 5)
    with pytest.raises(DataError, match=r"split.validation=0.2 of 93 distinct reviews is 19, but .* of the 25 labels"):
        split(tickets(counts), config.split, train_size="all")
