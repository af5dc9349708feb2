"""Texts as counts of character 3-5-grams, built word by word: no n-gram spans two words, and few words are new."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class WordCounts(NamedTuple):
    """Texts as words, and words as n-grams.

    Args:
        words: counts [texts, different words].
        grams: counts [different words, hashed n-grams].
    """

    words: "csr_matrix"
    grams: "csr_matrix"

    def vectors(self, rows: np.ndarray) -> "csr_matrix":
        """Unit vectors [rows, hashed n-grams] of some texts; an n-gram's place is its hash, as in HashingVectorizer.

        The numbers are those of `HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False)` to
        the last bit: counts are whole numbers, so the order in which they are added does not matter.
        """
        from sklearn.preprocessing import normalize

        counts = self.words[rows] @ self.grams
        counts.sort_indices()
        vectors: csr_matrix = normalize(counts, copy=False)
        return vectors


def count_words(*lists: Sequence[str]) -> tuple[WordCounts, ...]:
    """Count the words of each list of texts; all lists share the n-grams.

    Args:
        lists: texts whose words are separated by white space.
    """
    numbers: dict[str, int] = {}
    words = [_numbered(texts, numbers) for texts in lists]
    grams = _grams(numbers)
    return tuple(WordCounts(_matrix(*each, len(numbers)), grams) for each in words)


def _numbered(texts: Iterable[str], numbers: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each word, and where each text begins; new words get the next number."""
    from array import array

    found, starts = array("i"), array("q", [0])
    for text in texts:
        found.extend([numbers.setdefault(word, len(numbers)) for word in text.split()])
        starts.append(len(found))
    return np.array(found, dtype=np.int32), np.array(starts, dtype=np.int64)


def _matrix(words: np.ndarray, starts: np.ndarray, width: int) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((np.ones(len(words)), words, starts), shape=(len(starts) - 1, width))
    matrix.sum_duplicates()
    return matrix


def _grams(words: Iterable[str]) -> "csr_matrix":
    """Counts [words, hashed n-grams]. No idf: the similarity of two texts must not depend on other texts."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        preprocessor=str, analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False, norm=None
    )
    grams: csr_matrix = vectorizer.transform(words)
    return grams
