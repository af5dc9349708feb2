"""Baselines without a language model: TF-IDF of words and characters with logistic regression; the majority label."""

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Kind = Literal["linear", "majority"]
MODELS: dict[Kind, str] = {"linear": "tfidf+logistic-regression", "majority": "most-frequent-label"}


class LinearAnswers(NamedTuple):
    """A baseline's answers.

    Args:
        labels: one per review.
        confidence: the probability of each label, in [0, 1].
        seconds: wall time of predicting, without fitting.
    """

    labels: list[str]
    confidence: list[float]
    seconds: float


def classifier(seed: int) -> "Pipeline":
    """The linear baseline, not fitted: TF-IDF of words and characters with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=2000, random_state=seed))


def fit(model: Any, features: Any, labels: Any) -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Fit a classifier of scikit-learn, without its warning that many labels have few reviews."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        return model.fit(features, labels)


def fit_predict(
    texts: Sequence[str], labels: Sequence[str], unseen: Sequence[str], *, kind: Kind = "linear", seed: int
) -> LinearAnswers:
    """Fit on labelled texts and label the unseen ones.

    Args:
        texts: the texts to fit on.
        labels: their labels.
        unseen: the texts to label.
        kind: which baseline.
        seed: of the fit.
    """
    from sklearn.dummy import DummyClassifier

    unfitted = classifier(seed) if kind == "linear" else DummyClassifier(strategy="prior")
    model = fit(unfitted, texts, labels)
    started = time.perf_counter()
    shares = model.predict_proba(unseen)
    answers = [str(label) for label in model.classes_[shares.argmax(axis=1)]]
    return LinearAnswers(answers, shares.max(axis=1).tolist(), time.perf_counter() - started)
