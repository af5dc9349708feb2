"""Cross-validation: every review is classified by linear models trained without it and without its near-duplicates.

The features are those of the linear baseline. For up to EXACT reviews they are converted to as many columns as there
are reviews, with the same inner products: a logistic regression with an L2 penalty depends on nothing else (the
representer theorem; Schölkopf, Herbrich and Smola, COLT 2001), so the answers are the same and take 1/30 of the time.
The words' document frequencies come from all reviews, without their labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reviewtune.data.splits import duplicate_groups
from reviewtune.errors import DataError
from reviewtune.evaluation import linear_baseline

FOLDS = 5
EXACT = 3_000
MIN_PER_LABEL = 4  # labels with fewer reviews are left out: they cannot be both trained on and tested


@dataclass(frozen=True)
class FoldedReviews:
    """Reviews with features and folds, ready for cross-validation.

    Args:
        kept: positions [m] of the reviews that take part, in the list that was given.
        features: of these reviews [m, d], dense or sparse.
        labels: their class numbers [m].
        classes: names of the classes.
        groups: their group numbers [m]; near-duplicates have the same number.
        folds: positions within the m reviews, a pair (train, test) per fold.
    """

    kept: np.ndarray
    features: Any
    labels: np.ndarray
    classes: list[str]
    groups: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]


def fold_reviews(texts: Sequence[str], labels: Sequence[str], *, similarity: float, seed: int) -> FoldedReviews:
    """Compute features and folds; near-duplicates are in one fold.

    Args:
        texts: the reviews.
        labels: their labels.
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
        seed: seed of the folds.

    Raises:
        DataError: fewer than two labels have MIN_PER_LABEL distinct reviews.
    """
    groups = duplicate_groups(list(texts), similarity)
    distinct = Counter(label for label, _ in set(zip(labels, groups.tolist(), strict=True)))
    classes = sorted(label for label, n in distinct.items() if n >= MIN_PER_LABEL)
    if len(classes) < 2:
        raise DataError(f"fewer than two labels have {MIN_PER_LABEL} different reviews")
    kept = np.array([i for i, label in enumerate(labels) if label in classes])
    numbers = np.array([classes.index(labels[i]) for i in kept])
    folds = _folds(numbers, groups[kept], min(FOLDS, *(distinct[label] for label in classes)), seed)
    return FoldedReviews(kept, embed([texts[i] for i in kept]), numbers, classes, groups[kept], folds)


def embed(texts: Sequence[str]) -> Any:  # noqa: ANN401 - a dense or a sparse matrix
    """Features [n, d] of the linear baseline; for up to EXACT texts the equivalent [n, at most n]."""
    sparse = linear_baseline.classifier(0)[0].fit_transform(list(texts))
    if len(texts) > EXACT:
        return sparse
    values, vectors = np.linalg.eigh((sparse @ sparse.T).toarray())
    positive = values > values.max() * 1e-10
    return vectors[:, positive] * np.sqrt(values[positive])


def fit(features: Any, labels: np.ndarray, seed: int) -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Train the linear baseline's classifier on the features [n, d] and labels [n]."""
    return linear_baseline.fit(linear_baseline.classifier(seed)[1], features, labels)


def probabilities(reviews: FoldedReviews, *, seed: int) -> np.ndarray:
    """Out-of-fold probabilities [m, number of classes]: each fold is classified by a model of the others."""
    result = np.zeros((len(reviews.labels), len(reviews.classes)))
    for train, test in reviews.folds:
        model = fit(reviews.features[train], reviews.labels[train], seed)
        result[np.ix_(test, model.classes_)] = model.predict_proba(reviews.features[test])
    return result


def _folds(labels: np.ndarray, groups: np.ndarray, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, groups))
