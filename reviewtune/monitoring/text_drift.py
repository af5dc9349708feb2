"""Have the texts changed? A classifier tries to tell new reviews from the reference, out of fold.

Sources: Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017. The classifier is a ridge classifier on
TF-IDF of words and characters: its out-of-fold scores are linear in the labels "new" and "reference", so the test can
be repeated with exchanged labels without fitting anything again. That makes the p-value exact: Phipson and Smyth,
Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.

Exchanging labels only among reviews to which the model gives the same label asks a second question: have the texts
changed beyond the label mix? If so, accuracy cannot be estimated without labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.deployment.text_features import TextFeatures
from reviewtune.monitoring.alarms import Raw

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LEAST_AUC = 0.55
FOLDS, PENALTY, DRAWS, SEED = 5, 1.0, 1_999, 0
MOST = 1_000
"""Texts of each side that are compared: the cost grows with the cube of their number."""
FEWEST = 20  # texts on each side


@dataclass(frozen=True)
class TextDrift:
    """The outcome.

    Args:
        p: of the test that both sides come from the same texts.
        p_within: the same for texts to which the model gives the same label.
        auc: how well the classifier tells them apart: 0.5 is chance, 1 always.
    """

    p: float
    p_within: float
    auc: float

    def tests(self) -> list[Raw]:
        """Both as tests."""
        seen = f"a classifier tells new from reference reviews in {100 * self.auc:.0f} of 100 pairs; chance is 50"
        rows = (("text", self.p), ("text within labels", self.p_within))
        return [
            Raw(
                group=name,
                name=name,
                method="classifier two-sample test",
                p=p,
                effect=self.auc,
                effect_name="AUC",
                least_effect=LEAST_AUC,
                seen=seen,
            )
            for name, p in rows
        ]


def text_drift(
    reference: TextFeatures, new: TextFeatures, strata: tuple[Sequence[str], Sequence[str]] | None, *, seed: int = SEED
) -> TextDrift | None:
    """Compare the texts; None if one side has fewer than FEWEST.

    Args:
        reference, new: the texts.
        strata: the model's label of each text on both sides; None: not known, `p_within` is then 1.
        seed: of the folds and the exchanges.
    """
    if min(len(reference), len(new)) < FEWEST:
        return None
    draw = np.random.default_rng(seed)
    left, right = _sample(len(reference), draw), _sample(len(new), draw)
    is_new = np.r_[np.zeros(len(left)), np.ones(len(right))]
    scores_of = _out_of_fold(tf_idf(reference.rows(left), new.rows(right)), draw)
    labels = None if strata is None else np.array([*_at(strata[0], left), *_at(strata[1], right)])
    within = 1.0 if labels is None else _exchange_p(scores_of, is_new, labels, draw)
    p = _exchange_p(scores_of, is_new, np.zeros(len(is_new)), draw)
    return TextDrift(p, within, _auc(scores_of @ (is_new - is_new.mean()), is_new))


def tf_idf(*parts: TextFeatures, words_only: bool = False) -> "csr_matrix":
    """TF-IDF [texts, features] of all parts one below the other, rows of length 1."""
    from scipy.sparse import csr_matrix, hstack, vstack
    from sklearn.feature_extraction.text import TfidfTransformer

    kinds = ["words"] if words_only else ["words", "characters"]
    blocks = [vstack([getattr(part, kind) for part in parts]).tocsr() for kind in kinds]
    weighted = [TfidfTransformer(sublinear_tf=True).fit_transform(block) for block in blocks]
    return csr_matrix(hstack(weighted) / np.sqrt(len(kinds)))


def _out_of_fold(features: "csr_matrix", draw: Any) -> np.ndarray:  # noqa: ANN401 - numpy's generator
    """The matrix [n, n] that turns labels of all texts into scores of each, fitted without the fold of that text."""
    products = (features @ features.T).toarray()
    n = len(products)
    fold, scores_of = draw.permutation(n) % FOLDS, np.zeros((n, n))
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        inner = products[np.ix_(train, train)] + PENALTY * np.eye(len(train))
        scores_of[np.ix_(test, train)] = np.linalg.solve(inner, products[np.ix_(train, test)]).T
    return scores_of


def _exchange_p(scores_of: np.ndarray, is_new: np.ndarray, strata: np.ndarray, draw: Any) -> float:  # noqa: ANN401
    """P-value: how often the scores of exchanged labels fit those labels as well as the scores of the real ones do."""
    labels = np.repeat(is_new[None].astype(np.float32), DRAWS + 1, axis=0)  # the first row stays as it is
    for name in np.unique(strata):
        members = np.flatnonzero(strata == name)
        labels[1:, members] = draw.permuted(labels[1:, members], axis=1)
        labels[:, members] -= is_new[members].mean()
    fit = np.einsum("dn,dn->d", labels, labels @ scores_of.T.astype(np.float32))
    return float((fit >= fit[0] - 1e-5 * abs(fit[0])).mean())


def _sample(n: int, draw: Any) -> list[int]:  # noqa: ANN401
    return list(range(n)) if n <= MOST else sorted(int(i) for i in draw.choice(n, MOST, replace=False))


def _at(values: Sequence[str], places: Sequence[int]) -> list[str]:
    return [values[place] for place in places]


def _auc(scores: np.ndarray, is_new: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_new, scores))
