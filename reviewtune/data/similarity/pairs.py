"""The pairs of near-duplicates among texts: all of them, or nearly all among more than EXACT texts.

Every pair that is returned was compared exactly.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from reviewtune.data.similarity.features import rare_first
from reviewtune.data.similarity.min_hash import LEAST, hashed_candidates
from reviewtune.data.similarity.ngrams import WordCounts, count_words
from reviewtune.data.similarity.prefix_join import Candidates, candidates, close

COMPARED = 10_000  # pairs at once
EXACT = 20_000
"""Texts up to which no pair is missed. That takes about 7 s, and four times as long for twice as many texts."""
EXACT_BETWEEN = 5_000
"""The same of two lists together. Fewer: a check of two splits must find no pair that the larger search has missed."""


class Pairs(NamedTuple):
    """Positions [n] of two similar texts and their cosines [n], the most similar first."""

    left: np.ndarray
    right: np.ndarray
    cosines: np.ndarray


NONE = Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))


@lru_cache(maxsize=4)  # every job of a sweep compares the same splits
def pairs_between(left: tuple[str, ...], right: tuple[str, ...], threshold: float) -> Pairs:
    """The pairs of a text of `left` and one of `right` with a cosine of at least the threshold, in (0, 1]."""
    if not _has_words(left) or not _has_words(right):
        return NONE
    counts, others = count_words(left, right)
    hashed = len(left) + len(right) > EXACT_BETWEEN
    return _exact(counts, others, _found(counts, others, threshold, hashed=hashed), threshold)


@lru_cache(maxsize=4)
def pairs_within(texts: tuple[str, ...], threshold: float) -> Pairs:
    """As `pairs_between` a list and itself, each pair once, with left < right."""
    if not _has_words(texts):
        return NONE
    (counts,) = count_words(texts)
    return _exact(counts, counts, _found(counts, None, threshold, hashed=len(texts) > EXACT), threshold)


def _found(left: WordCounts, right: WordCounts | None, threshold: float, *, hashed: bool) -> list[Candidates]:
    """The pairs that are close, apart from rounding; None: of `left` with itself, each pair once."""
    once, right = right is None, left if right is None else right
    vectors = rare_first([left] if once else [left, right])
    if hashed and threshold >= LEAST:
        pairs: Iterator[Candidates] = hashed_candidates(left, right, once=once)
    else:
        pairs = candidates(vectors[0], vectors[-1], threshold, once=once)
    return [close(vectors[0], vectors[-1], each, threshold) for each in pairs]


def _has_words(texts: Sequence[str]) -> bool:
    return any(text.split() for text in texts)


def _exact(left: WordCounts, right: WordCounts, found: Sequence[Candidates], threshold: float) -> Pairs:
    """Those of the candidates that are similar, with their cosines in double precision."""
    every = [np.stack(each).astype(np.int64) for each in found]
    rows, columns = np.unique(np.hstack([np.zeros((2, 0), dtype=np.int64), *every]), axis=1)
    parts = [slice(start, start + COMPARED) for start in range(0, len(rows), COMPARED)]
    cosines = np.concatenate([np.zeros(0), *(_cosines(left, right, rows[part], columns[part]) for part in parts)])
    order = np.lexsort((columns, rows, -cosines))
    order = order[cosines[order] >= threshold - 1e-9]
    return Pairs(rows[order], columns[order], cosines[order])


def _cosines(left: WordCounts, right: WordCounts, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The cosine of each pair: its products added in the order of the n-grams, as a product of matrices adds them."""
    products = left.vectors(rows).multiply(right.vectors(columns)).tocsr()
    pair = np.repeat(np.arange(len(rows)), np.diff(products.indptr))
    return np.bincount(pair, weights=products.data, minlength=len(rows))
