"""Score predictions against labels; an answer that names no label is an error and is never left out.

As in scikit-learn, `y_true` and `y_pred` come first, all other arguments are keywords, and a higher score is better.

Undefined values follow scikit-learn's `zero_division=0`: a label that was never predicted has precision 0, one without
a review in the test set has recall 0, and both count in the averages. A model therefore gains nothing by never
answering a label. `Scores.never_predicted` and `Scores.without_reviews` list those labels for reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import DIGITS

if TYPE_CHECKING:
    import pandas as pd

INVALID = "(unusable)"
"""An answer that names no label of the list; a value of `predicted` in predictions.csv."""


@dataclass(frozen=True)
class LabelScore:
    """One label's scores; `support` is the number of reviews with this label, `predicted` that of such answers."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1, averaged over the label list."""

    precision: float
    recall: float
    f1: float

    def rounded(self) -> "Average":
        """Rounded as in the result files."""
        return Average(round(self.precision, DIGITS), round(self.recall, DIGITS), round(self.f1, DIGITS))


@dataclass(frozen=True)
class Scores:
    """What one arm achieved on one test set.

    Args:
        labels: the label list.
        n: number of reviews.
        correct: how many were answered with their label.
        invalid: how many answers were unusable.
        per_label: the scores of each label.
        macro: averages with equal weight for each label.
        weighted: averages weighted by support.
        confusion: [labels, labels + 1]; row i, column j counts reviews of label i that were answered with label j, and
            the last column counts unusable answers.
    """

    labels: tuple[str, ...]
    n: int
    correct: int
    invalid: int
    per_label: Mapping[str, LabelScore]
    macro: Average
    weighted: Average
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Share of all reviews, unusable answers included, that were answered with their label."""
        return self.correct / self.n

    @property
    def never_predicted(self) -> tuple[str, ...]:
        """Labels whose precision is undefined and counts as 0."""
        return tuple(label for label, scores in self.per_label.items() if scores.predicted == 0)

    @property
    def never_answered(self) -> dict[str, int]:
        """Number of reviews of each label that has some but was never predicted."""
        return {name: of.support for name, of in self.per_label.items() if of.support and not of.predicted}

    @property
    def without_reviews(self) -> tuple[str, ...]:
        """Labels whose recall is undefined and counts as 0."""
        return tuple(label for label, scores in self.per_label.items() if scores.support == 0)


def score(y_true: Sequence[str], y_pred: Sequence[str], *, labels: Sequence[str]) -> Scores:
    """Score predictions.

    Args:
        y_true: the label of each review.
        y_pred: the prediction for each review, a label or INVALID.
        labels: the label list.

    Raises:
        DataError: there is nothing to score, the lengths differ, or a name is not in the list.
    """
    from sklearn.metrics import confusion_matrix

    truth, predicted = list(y_true), list(y_pred)
    _check(truth, predicted, labels)
    square = confusion_matrix(truth, predicted, labels=[*labels, INVALID])
    counts = square[:-1].tolist()  # INVALID is never a truth, so its row is empty
    return Scores(
        labels=tuple(labels),
        n=len(truth),
        correct=sum(counts[i][i] for i in range(len(labels))),
        invalid=sum(row[-1] for row in counts),
        per_label=_per_label(truth, predicted, labels, square.sum(axis=0).tolist()),
        macro=_average(truth, predicted, labels, "macro"),
        weighted=_average(truth, predicted, labels, "weighted"),
        confusion=tuple(tuple(row) for row in counts),
    )


def _check(truth: list[str], predicted: list[str], labels: Sequence[str]) -> None:
    if not truth:
        raise DataError("no predictions to score: the test set is empty")
    if len(truth) != len(predicted):
        raise DataError(f"{len(truth)} labels but {len(predicted)} predictions: every review needs one prediction")
    if INVALID in labels or len(set(labels)) != len(labels):
        raise DataError(f"the label list must have distinct names other than {INVALID!r}: {list(labels)}")
    for unknown in set(truth) - set(labels):
        raise DataError(f"label {unknown!r} is not one of the {len(labels)} labels: {', '.join(labels)}")
    for unknown in set(predicted) - {*labels, INVALID}:
        raise DataError(f"prediction {unknown!r} is neither one of the {len(labels)} labels nor {INVALID!r}")


def _per_label(
    truth: list[str], predicted: list[str], labels: Sequence[str], answered: list[int]
) -> dict[str, LabelScore]:
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(truth, predicted, labels=list(labels), average=None, zero_division=0)
    rows = zip(labels, *(column.tolist() for column in columns), answered[:-1], strict=True)
    return {label: LabelScore(*values) for label, *values in rows}


def _average(
    truth: list[str], predicted: list[str], labels: Sequence[str], how: Literal["macro", "weighted"]
) -> Average:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, labels=list(labels), average=how, zero_division=0
    )
    return Average(float(precision), float(recall), float(f1))


def per_label_table(scores: Scores) -> "pd.DataFrame":
    """One row per label, in the order of the list: label, support, predicted, precision, recall, f1."""
    import pandas as pd

    rows = [{"label": label, **vars(label_scores)} for label, label_scores in scores.per_label.items()]
    columns = ["label", "support", "predicted", "precision", "recall", "f1"]
    return pd.DataFrame(rows, columns=columns).round(DIGITS)
