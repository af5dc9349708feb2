"""Likely label errors: reviews whose label the out-of-fold models find implausible, the least plausible first.

Confident learning (Northcutt, Jiang and Chuang, JAIR 70 (2021) 1373-1411), as cleanlab implements it: a label is
suspected if its probability is low and another label's is at least that label's average.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from reviewtune.data_check.facts import LabelError

COLUMNS = tuple(field.name for field in fields(LabelError))


class Suspect(NamedTuple):
    """A review, by position, that may have the wrong label; both probabilities are out-of-fold."""

    position: int
    suggested: int
    label_probability: float
    suggested_probability: float


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """Find the labels that may be wrong.

    Args:
        labels: class numbers [n].
        probabilities: out-of-fold probabilities [n, number of classes].

    Returns:
        The suspects, the least probable label first.
    """
    from cleanlab.filter import find_label_issues

    ranked = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [_suspect(int(i), labels, probabilities) for i in ranked]


def label_errors(ranked: Sequence[Suspect], reviews: pd.DataFrame, classes: Sequence[str]) -> list[LabelError]:
    """The suspects with their reviews.

    Args:
        ranked: the suspects.
        reviews: the reviews that their positions refer to, with line, review_id, text and label.
        classes: names of the classes.
    """
    return [
        LabelError(
            rank=rank,
            line=int(row.line),
            review_id=row.review_id,
            label=row.label,
            suggested=classes[suspect.suggested],
            label_probability=round(suspect.label_probability, 4),
            suggested_probability=round(suspect.suggested_probability, 4),
            text=row.text,
        )
        for rank, suspect in enumerate(ranked, start=1)
        for row in [reviews.iloc[suspect.position]]
    ]


def to_table(errors: Sequence[LabelError]) -> pd.DataFrame:
    """One row per label error, with the columns COLUMNS."""
    return pd.DataFrame([vars(error) for error in errors], columns=list(COLUMNS))


def _suspect(i: int, labels: np.ndarray, probabilities: np.ndarray) -> Suspect:
    best = int(probabilities[i].argmax())
    return Suspect(i, best, float(probabilities[i, labels[i]]), float(probabilities[i, best]))
