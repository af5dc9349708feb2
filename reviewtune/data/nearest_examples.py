"""Choose a prompt's examples for each review: the most similar labelled reviews."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Example = tuple[str, str]  # text, label


def nearest_examples(pool: "pd.DataFrame", texts: Sequence[str], count: int) -> list[tuple[Example, ...]]:
    """Find the labelled reviews that are most similar to each text.

    Similarity is the cosine of TF-IDF weighted words and character 2-5-grams, as in the linear baseline; ties are
    resolved by the order of the pool. The caller must check that no test text is in the pool (leakage.py).

    Args:
        pool: labelled reviews, with the columns text and label.
        texts: the reviews that examples are needed for.
        count: examples per review; fewer if the pool is smaller.

    Returns:
        For each text its examples, the most similar last, so that it is next to the review in the prompt.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_union

    known = pool["text"].tolist()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectors = make_union(words, characters)
    index = NearestNeighbors(n_neighbors=min(count, len(known)), metric="cosine").fit(vectors.fit_transform(known))
    nearest = index.kneighbors(vectors.transform(list(texts)), return_distance=False)
    pairs = list(zip(known, pool["label"].tolist(), strict=True))
    return [tuple(pairs[position] for position in reversed(row)) for row in nearest.tolist()]
