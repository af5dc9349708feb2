"""Every review judged by linear models that never saw it, nor a near-duplicate of it.

The features are those of the linear baseline. For up to EXACT reviews they are turned into as many columns as there
are reviews, with the same inner products: a logistic regression with an L2 penalty depends on nothing else (the
representer theorem; Schölkopf, Herbrich and Smola, COLT 2001), so the answers are the same and come 30 times sooner.
The words' document frequencies are taken from all reviews, without their labels.
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
MIN_PER_LABEL = 4  # a label with fewer reviews is left out: it cannot be learned in one part and tested in another


@dataclass(frozen=True)
class Material:
    """Reviews ready to be judged. `kept` are the positions [m] of those that take part; everything else is for these:
    features [m, d], labels [m] as numbers into `classes`, groups [m] of near-duplicates, and `folds`, one fold's
    positions (train, test) each."""

    kept: np.ndarray
    features: Any
    labels: np.ndarray
    classes: list[str]
    groups: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]


def material(texts: Sequence[str], labels: Sequence[str], *, similarity: float, seed: int) -> Material:
    """Features and folds.

    Raises:
        DataError: fewer than two labels with MIN_PER_LABEL distinct reviews each.
    """
    groups = duplicate_groups(list(texts), similarity)
    distinct = Counter(label for label, _ in set(zip(labels, groups.tolist(), strict=True)))
    classes = sorted(label for label, n in distinct.items() if n >= MIN_PER_LABEL)
    if len(classes) < 2:
        raise DataError(f"fewer than two labels have {MIN_PER_LABEL} different reviews")
    kept = np.array([i for i, label in enumerate(labels) if label in classes])
    numbers = np.array([classes.index(labels[i]) for i in kept])
    folds = _folds(numbers, groups[kept], min(FOLDS, *(distinct[label] for label in classes)), seed)
    return Material(kept, embed([texts[i] for i in kept]), numbers, classes, groups[kept], folds)


def embed(texts: Sequence[str]) -> Any:  # noqa: ANN401 - a dense or a sparse matrix
    """Features [n, d] of the linear baseline, or for few texts the exact [n, n] stand-in."""
    sparse = linear_baseline.classifier(0)[0].fit_transform(list(texts))
    if len(texts) > EXACT:
        return sparse
    values, vectors = np.linalg.eigh((sparse @ sparse.T).toarray())
    positive = values > values.max() * 1e-10
    return vectors[:, positive] * np.sqrt(values[positive])


def fit(features: Any, labels: np.ndarray, seed: int) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """The baseline's classifier on ready features."""
    return linear_baseline.classifier(seed)[1].fit(features, labels)


def probabilities(of: Material, *, seed: int) -> np.ndarray:
    """[m, number of classes]: how likely each class is for each review, by the models of the other folds."""
    found = np.zeros((len(of.labels), len(of.classes)))
    for train, test in of.folds:
        model = fit(of.features[train], of.labels[train], seed)
        found[np.ix_(test, model.classes_)] = model.predict_proba(of.features[test])
    return found


def _folds(labels: np.ndarray, groups: np.ndarray, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, groups))
