"""Near-duplicates: the same pairs, cosines and order as comparing all texts with all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from reviewtune.data.similarity import pairs, prefix_join
from reviewtune.data.similarity.exact_repeats import exact_repeats
from reviewtune.data.splits import SimilarPair, alike, comparable, near_duplicates

WORDS = ("parcel", "parcels", "late", "later", "broken", "button", "refund", "re", "a", "색상", "배송이", "배송", "42")
texts_of_words = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=25)
any_texts = st.lists(st.text(max_size=30), max_size=12)


def all_pairs(left: list[str], right: list[str], threshold: float) -> list[SimilarPair]:
    """The reference: the product of all vectors with all."""
    if not left or not right:
        return []
    vectorizer = HashingVectorizer(
        preprocessor=comparable, analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False
    )
    cosines = (vectorizer.transform(left) @ vectorizer.transform(right).T.tocsr()).tocoo()
    close = cosines.data >= threshold - 1e-9
    rows, columns, values = cosines.row[close], cosines.col[close], cosines.data[close]
    order = np.lexsort((columns, rows, -values))
    return [SimilarPair(int(rows[i]), int(columns[i]), float(values[i])) for i in order]


def within(texts: list[str], threshold: float) -> list[SimilarPair]:
    return [pair for pair in all_pairs(texts, texts, threshold) if pair.left < pair.right]


def test_repeats_are_found_whatever_their_case() -> None:
    assert exact_repeats(["Late", "lost", "late", "LOST", "fine"]) == [[0, 2], [1, 3]]
    assert exact_repeats(["late", "lost"]) == exact_repeats([]) == []


@settings(max_examples=60)
@given(left=texts_of_words | any_texts, right=texts_of_words | any_texts, threshold=st.floats(0.001, 1))
def test_all_pairs_are_found_with_equal_cosines_in_equal_order(
    left: list[str], right: list[str], threshold: float
) -> None:
    assert alike(left, right, threshold) == all_pairs(left, right, threshold)
    assert near_duplicates(left, threshold) == within(left, threshold)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
@pytest.mark.parametrize("name", ["reviews_en", "reviews_ko"])
def test_the_projects_reviews_have_the_same_near_duplicates(name: str, threshold: float, project: Path) -> None:
    texts = pd.read_csv(project / f"data/raw/{name}.csv")["text"].tolist()
    varied = [*texts, *(text.replace(" the ", " a ", 1) + "!" for text in texts[:100])]
    found = near_duplicates(varied, threshold)
    assert found == within(varied, threshold)
    assert len(found) >= 90
    assert alike(texts[:100], varied, threshold) == all_pairs(texts[:100], varied, threshold)


def test_many_texts_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(150)]
    monkeypatch.setattr(prefix_join, "MULTIPLICATIONS", 500)
    monkeypatch.setattr(prefix_join, "COMPARED", 7)
    monkeypatch.setattr("reviewtune.data.similarity.pairs.COMPARED", 11)
    assert near_duplicates(texts, 0.87) == within(texts, 0.87)
    assert alike(texts[:40], texts, 0.87) == all_pairs(texts[:40], texts, 0.87)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few texts are searched as very many are."""
    monkeypatch.setattr(pairs, "EXACT", 0)
    monkeypatch.setattr(pairs, "EXACT_BETWEEN", 0)
    pairs.pairs_between.cache_clear()
    pairs.pairs_within.cache_clear()


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("name", ["reviews_en", "reviews_ko"])
def test_the_search_among_very_many_texts_finds_the_same_in_the_projects_reviews(name: str, project: Path) -> None:
    texts = pd.read_csv(project / f"data/raw/{name}.csv")["text"].tolist()
    varied = [*texts, *(text.replace(" the ", " a ", 1) + "!" for text in texts[:100]), "", "...", texts[0].upper()]
    assert near_duplicates(varied, 0.9) == within(varied, 0.9)
    assert alike(texts[:100], varied, 0.9) == all_pairs(texts[:100], varied, 0.9)


def made_up(rng: np.random.Generator, n: int) -> list[str]:
    """Texts of 10 to 40 words, every second one with a few words exchanged in the text before it."""
    vocabulary = np.array(["".join(rng.choice(list("abdeiklmnorstu"), size=rng.integers(2, 9))) for _ in range(3_000)])
    texts: list[str] = []
    for _ in range(n // 2):
        words = rng.choice(vocabulary, size=rng.integers(10, 41))
        texts.append(" ".join(words))
        words[rng.integers(len(words), size=1 + len(words) // 12)] = rng.choice(vocabulary)
        texts.append(" ".join(words))
    return texts


def test_more_texts_than_are_compared_exactly_lose_hardly_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = made_up(np.random.default_rng(5), 4_000)
    exact = {pair[:2] for pair in near_duplicates(texts, 0.85)}
    assert len(exact) > 500
    monkeypatch.setattr(pairs, "EXACT", 1_000)
    pairs.pairs_within.cache_clear()
    found = near_duplicates(texts, 0.85)
    assert {pair[:2] for pair in found} <= exact
    assert len(found) >= 0.99 * len(exact)
    assert all(pair.similarity >= 0.85 - 1e-9 for pair in found)


@pytest.mark.usefixtures("hashed")
def test_a_low_threshold_is_searched_exactly() -> None:
    """Texts that are hardly alike share few hashes."""
    rng = np.random.default_rng(6)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(150)]
    assert near_duplicates(texts, 0.5) == within(texts, 0.5)
