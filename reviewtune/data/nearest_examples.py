"""Examples for a prompt, chosen for each review: the labelled reviews that are most like it, by scikit-learn."""

from collections.abc import Sequence

import pandas as pd

Example = tuple[str, str]  # text, label


def nearest_examples(pool: pd.DataFrame, texts: Sequence[str], count: int) -> list[tuple[Example, ...]]:
    """For each text the `count` nearest reviews of the pool (columns text, label), the nearest last, beside the review.

    Nearness is the cosine of TF-IDF weighted words and character 2-5-grams, as in the linear baseline; of equally near
    ones the earlier in the pool comes first. The index holds the pool and nothing else: whoever calls this has checked
    that no text stands in it (leaks.py).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_union

    known = pool["text"].tolist()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectors = make_union(words, characters)
    index = NearestNeighbors(n_neighbors=min(count, len(known)), metric="cosine").fit(vectors.fit_transform(known))
    found = index.kneighbors(vectors.transform(list(texts)), return_distance=False)
    pairs = list(zip(known, pool["label"].tolist(), strict=True))
    return [tuple(pairs[at] for at in reversed(row)) for row in found.tolist()]
