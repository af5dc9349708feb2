"""The linear baseline: TF-IDF of words and of characters, logistic regression. What a fine-tune has to beat."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MODEL = "tfidf+logistic-regression"


class LinearAnswers(NamedTuple):
    labels: list[str]
    seconds: float  # wall time of predicting, without fitting


def classifier(seed: int) -> "Pipeline":
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=2000, random_state=seed))


def fit_predict(texts: Sequence[str], labels: Sequence[str], unseen: Sequence[str], *, seed: int) -> LinearAnswers:
    """Fit on labelled texts and label the unseen ones."""
    model = classifier(seed).fit(texts, labels)
    started = time.perf_counter()
    answers = [str(label) for label in model.predict(unseen)]
    return LinearAnswers(answers, time.perf_counter() - started)
