"""Choose a prompt's examples for each review: the most similar labelled reviews."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Example = tuple[str, str]  # text, label


class NearestExamples:
    """An index of labelled reviews, which is made at the first search. Threads may share it.

    Similarity is the cosine of TF-IDF weighted words and character 2-5-grams, as in the linear baseline; ties are
    resolved by the order of the pool. The caller must check that no test text is in the pool (leakage.py).

    Args:
        pool: labelled reviews, with the columns text and label.
        count: examples per review; fewer if the pool is smaller.
    """

    def __init__(self, pool: "pd.DataFrame", count: int) -> None:
        self._texts, self._labels, self._count = pool["text"].tolist(), pool["label"].tolist(), count
        self._fitting = Lock()
        self._fitted: tuple[Any, Any] | None = None  # scikit-learn has no types

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which belongs to a process."""
        return {name: value for name, value in vars(self).items() if name != "_fitting"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _fitting=Lock())

    @property
    def identity(self) -> tuple[object, ...]:
        """What the examples of a review depend on."""
        return self._texts, self._labels, self._count

    def of(self, texts: Sequence[str]) -> list[tuple[Example, ...]]:
        """For each text its examples, the most similar last, so that it is next to the review in the prompt."""
        if not texts:
            return []
        vectors, index = self._index()
        nearest = index.kneighbors(vectors.transform(list(texts)), return_distance=False)
        pairs = list(zip(self._texts, self._labels, strict=True))
        return [tuple(pairs[position] for position in reversed(row)) for row in nearest.tolist()]

    def _index(self) -> tuple[Any, Any]:
        with self._fitting:
            if self._fitted is None:
                self._fitted = _fitted(self._texts, self._count)
            return self._fitted


def _fitted(texts: Sequence[str], count: int) -> tuple[Any, Any]:
    """What makes vectors of texts, and the index of those of the pool."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectors = make_union(words, characters)
    index = NearestNeighbors(n_neighbors=min(count, len(texts)), metric="cosine")
    return vectors, index.fit(vectors.fit_transform(texts))
