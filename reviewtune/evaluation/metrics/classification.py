"""Score predictions against labels; an answer that is no label is an error, never left out.

As in scikit-learn: `y_true` and `y_pred` come first, everything else goes by keyword; every number is a score: more is
better.

Policy for undefined values (scikit-learn's `zero_division=0`): a label that was never predicted has precision 0, one
without a review in the test set has recall 0, and both stay in the averages. So a forgotten label costs, and nobody
gains by never answering it. `Scores.never_predicted` and `Scores.without_reviews` name those labels for people to see.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import proportion

if TYPE_CHECKING:
    import pandas as pd

INVALID = "(unusable)"
"""Stands for an answer that names no label of the list; the value of `predicted` in predictions.csv."""

DIGITS = 6
"""Decimals in files: enough for any test set, and equal to the byte on every machine."""


@dataclass(frozen=True)
class LabelScore:
    """One label's scores; `support` is how many reviews carry it, `predicted` how often it was answered."""

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
        """As the result files hold it."""
        return Average(round(self.precision, DIGITS), round(self.recall, DIGITS), round(self.f1, DIGITS))


@dataclass(frozen=True)
class Scores:
    """What one arm achieved on one test set.

    `confusion[i][j]` counts reviews of label i that were answered with label j; the last column (j = number of labels)
    counts unusable answers. `macro` gives every label the same weight, `weighted` weighs by support.
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
        """Labels whose precision is 0 by policy."""
        return tuple(label for label, one in self.per_label.items() if one.predicted == 0)

    @property
    def without_reviews(self) -> tuple[str, ...]:
        """Labels whose recall is 0 by policy."""
        return tuple(label for label, one in self.per_label.items() if one.support == 0)


def score(y_true: Sequence[str], y_pred: Sequence[str], *, labels: Sequence[str]) -> Scores:
    """Score the predictions `y_pred`, each a label or INVALID.

    Raises DataError when there is nothing to score, the lengths differ, or a name is unknown.
    """
    from sklearn.metrics import confusion_matrix

    truth, predicted = list(y_true), list(y_pred)
    _check(truth, predicted, labels)
    square = confusion_matrix(truth, predicted, labels=[*labels, INVALID])
    counts = square[:-1].tolist()  # INVALID is never a truth, so its row is empty
    per_label = _per_label(truth, predicted, labels, square.sum(axis=0).tolist())
    return Scores(
        labels=tuple(labels),
        n=len(truth),
        correct=sum(counts[i][i] for i in range(len(labels))),
        invalid=sum(row[-1] for row in counts),
        per_label=per_label,
        macro=_average(per_label.values(), weights=[1] * len(labels)),
        weighted=_average(per_label.values(), weights=[one.support for one in per_label.values()]),
        confusion=tuple(tuple(row) for row in counts),
    )


def _check(truth: list[str], predicted: list[str], labels: Sequence[str]) -> None:
    if not truth:
        raise DataError("no predictions to score: the test set is empty")
    if len(truth) != len(predicted):
        raise DataError(f"{len(truth)} labels but {len(predicted)} predictions: every review needs one prediction")
    if INVALID in labels or len(set(labels)) != len(labels):
        raise DataError(f"the label list must hold distinct names, none of them {INVALID!r}: {list(labels)}")
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


def _average(scores: Iterable[LabelScore], weights: Sequence[int]) -> Average:
    rows, total = list(scores), sum(weights)

    def mean(values: list[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total

    return Average(
        mean([one.precision for one in rows]), mean([one.recall for one in rows]), mean([one.f1 for one in rows])
    )


def as_json(scores: Scores) -> dict[str, Any]:
    """Scores as metrics.json holds them: the weighted averages on top, accuracy with its 95 % interval."""
    return {
        "n": scores.n,
        "correct": scores.correct,
        "accuracy": proportion(scores.correct, scores.n).as_json(),
        "precision": round(scores.weighted.precision, DIGITS),
        "recall": round(scores.weighted.recall, DIGITS),
        "f1": round(scores.weighted.f1, DIGITS),
        "macro": {name: round(value, DIGITS) for name, value in vars(scores.macro).items()},
        "invalid": scores.invalid,
    }


def per_label_table(scores: Scores) -> "pd.DataFrame":
    """One row a label, in the order of the list: label, support, predicted, precision, recall, f1."""
    import pandas as pd

    rows = [{"label": label, **vars(one)} for label, one in scores.per_label.items()]
    columns = ["label", "support", "predicted", "precision", "recall", "f1"]
    return pd.DataFrame(rows, columns=columns).round(DIGITS)
