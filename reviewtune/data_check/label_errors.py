"""Likely label errors: reviews whose label the out-of-fold models find implausible, the least plausible first.

Confident learning (Northcutt, Jiang and Chuang, JAIR 70 (2021) 1373-1411) as cleanlab has it: a review is suspected
when its label's probability is too low for that label and another one's is at or above that label's own average.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

COLUMNS = ("rank", "line", "review_id", "label", "suggested", "label_probability", "suggested_probability", "text")


class Suspect(NamedTuple):
    """A review, by position, that may bear the wrong label; both probabilities are out-of-fold."""

    position: int
    suggested: int
    label_probability: float
    suggested_probability: float


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """labels [n] as numbers, probabilities [n, k]; ranked by how little the models believe the label."""
    from cleanlab.filter import find_label_issues

    ranked = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [_suspect(int(i), labels, probabilities) for i in ranked]


def table(found: Sequence[Suspect], reviews: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """COLUMNS, one row a suspect; `reviews` [n] has line, review_id, text and label."""
    rows = [
        (rank, row.line, row.review_id, row.label, classes[one.suggested], *_rounded(one), row.text)
        for rank, one in enumerate(found, start=1)
        for row in [reviews.iloc[one.position]]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _suspect(i: int, labels: np.ndarray, probabilities: np.ndarray) -> Suspect:
    best = int(probabilities[i].argmax())
    return Suspect(i, best, float(probabilities[i, labels[i]]), float(probabilities[i, best]))


def _rounded(one: Suspect) -> tuple[float, float]:
    return round(one.label_probability, 4), round(one.suggested_probability, 4)
