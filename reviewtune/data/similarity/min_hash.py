"""Which pairs among very many texts may be near-duplicates: those with a band of equal minima of hashed n-grams.

The smallest hash of two sets of n-grams is the same with a probability of their Jaccard similarity J. BANDS bands of
BAND hashes find a pair with the probability 1 - (1 - J**BAND)**BANDS: 0.997 for J = 0.74, which texts of equal length
with a cosine of 0.85 have, and 0.008 for J = 0.25. Each band costs one pass over the texts, however many pairs there
are.

A pair can be missed although its cosine is high if one text repeats what the other says once: sets do not count.

Sources:
    Broder, On the resemblance and containment of documents, SEQUENCES 1997.
    Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3. The hash: Wellons, Prospecting for hash
    functions, 2018 (lowbias32).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from reviewtune.data.similarity.ngrams import WordCounts
from reviewtune.data.similarity.prefix_join import Candidates, in_order

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BAND, BANDS, SEED = 6, 32, 0
LEAST = 0.85  # cosine; texts that are less alike share a band too rarely
TEXTS = 5_000  # at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio, odd


def hashed_candidates(left: WordCounts, right: WordCounts, *, once: bool = False) -> Iterator[Candidates]:
    """The pairs that share a band, those of one band after the other: a pair may come more than once.

    Args:
        left: of n texts; texts without words are in no pair.
        right: of m texts, with the same n-grams.
        once: `left` and `right` are the same texts, and only pairs with left < right are wanted.
    """
    draw = np.random.default_rng(SEED)
    used = np.unique(left.grams.indices)
    grams = left.grams[:, used]
    lists = [_with_words(each.words) for each in ((left,) if once else (left, right))]
    for _ in range(BANDS):
        seeds = draw.integers(0, 2**32, size=BAND, dtype=np.uint32)
        of_words = _minima(grams, _hashes(used, seeds))
        keys = [_keys(words, of_words) for _, words in lists]
        pairs = _joined(keys[0], keys[-1])
        pairs = Candidates(lists[0][0][pairs.left], lists[-1][0][pairs.right])
        yield in_order(pairs) if once else pairs


def _with_words(words: "csr_matrix") -> tuple[np.ndarray, "csr_matrix"]:
    """Positions of the texts with words, and their rows."""
    texts = np.flatnonzero(np.diff(words.indptr))
    return texts, words[texts]


def _hashes(numbers: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Hashes [numbers, seeds]."""
    x = numbers.astype(np.uint32)[:, None] ^ seeds
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray(x ^ (x >> np.uint32(16)))


def _minima(rows: "csr_matrix", values: np.ndarray) -> np.ndarray:
    """The least of the values [columns, k] at the entries of each row: [rows, k]; the largest number for empty rows."""
    found = np.full((rows.shape[0], values.shape[1]), np.iinfo(values.dtype).max, dtype=values.dtype)
    full = np.flatnonzero(np.diff(rows.indptr))
    for start in range(0, len(full), TEXTS):
        part = rows[full[start : start + TEXTS]]
        found[full[start : start + TEXTS]] = np.minimum.reduceat(values[part.indices], part.indptr[:-1], axis=0)
    return found


def _keys(words: "csr_matrix", of_words: np.ndarray) -> np.ndarray:
    """The band of each text as one number."""
    keys = np.zeros(words.shape[0], dtype=np.uint64)
    for column in _minima(words, of_words).T:
        keys = keys * MULTIPLIER + column
    return keys


def _joined(left: np.ndarray, right: np.ndarray) -> Candidates:
    """The pairs with equal keys."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right[order], left, side="left")
    number = np.searchsorted(right[order], left, side="right") - first
    rows = np.repeat(np.arange(len(left)), number)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(number) - number, number) + first[rows]
    return Candidates(rows, order[places])
