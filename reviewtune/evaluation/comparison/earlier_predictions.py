"""A new evaluation against an earlier one, review by review: the interval of the difference and a paired test.

It needs the earlier predictions, which `reviewtune evaluate --out` and `dvc repro` leave next to metrics.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reviewtune.core.formatting import counted, p_value, points
from reviewtune.core.normalisation import normalise
from reviewtune.data.reviews import TEXT_COLUMNS
from reviewtune.data.sides.review_key import KEY, review_keys
from reviewtune.data.tables import Row, read_rows
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.comparison_file import PairwiseTest
from reviewtune.evaluation.comparison.pairwise_tests import Pair, pairwise_tests
from reviewtune.evaluation.earlier_metrics import Change, EarlierMetrics, changes_between
from reviewtune.evaluation.ground_truth import GroundTruth
from reviewtune.evaluation.metrics.classification import INVALID, Scores, score
from reviewtune.evaluation.metrics.significance import Interval

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS_FILE = "predictions.csv"
ID, LABEL, PREDICTED = "review_id", "label", "predicted"
TOLERANCE = 0.001  # between the accuracy of a metrics file, which may be rounded, and that of its predictions


class PairedChange(NamedTuple):
    """The paired test of a new evaluation (`this`) against an earlier one (`other`) on the `n` reviews of both."""

    n: int
    test: PairwiseTest


def earlier_predictions(earlier: EarlierMetrics, truth: GroundTruth) -> dict[str, str]:
    """Read what an earlier evaluation predicted for the reviews of a test set.

    Reviews are matched by their id if both evaluations used the same file, otherwise by the hash of their text (a
    column of predictions.csv) or by their text: in another file the same id may be another review.

    Args:
        earlier: its metrics file; the predictions are expected next to it.
        truth: the test set.

    Returns:
        The predicted labels by review_id, of the reviews that both evaluations scored.

    Raises:
        DataError: there are no predictions, they are not those of the metrics file, or no review matches.
    """
    path = earlier.path.parent / PREDICTIONS_FILE
    if not path.is_file():
        raise DataError(f"{path} does not exist; keep it next to {earlier.path.name}")
    rows = read_rows(path, [PREDICTED], hint="it is written by `reviewtune evaluate --out FOLDER`")
    _refuse_other_evaluation(path, rows, earlier)
    matched = _by_id(rows, truth.reviews) if _is_same_file(rows, earlier, truth) else _by_content(rows, truth)
    if not matched:
        raise DataError(f"no review of {path} can be matched with the test file, neither by id nor by text")
    return {review: label if label in truth.data.labels else INVALID for review, label in matched.items()}


def shared_changes(predictions: "pd.DataFrame", earlier: Mapping[str, str], labels: Sequence[str]) -> list[Change]:
    """Accuracy, precision, recall and F1 of both evaluations on the reviews that both scored, with the labels of now.

    Args:
        predictions: the new ones: columns review_id, label, predicted.
        earlier: the earlier ones, as from `earlier_predictions`.
        labels: all labels.
    """
    both = predictions[predictions[ID].isin(list(earlier))]
    truth, now = both[LABEL].tolist(), both[PREDICTED].tolist()
    then = both[ID].map(dict(earlier)).tolist()
    return changes_between(*(_shares(score(truth, answers, labels=labels)) for answers in (then, now)))


def _shares(scores: Scores) -> dict[str, float]:
    weighted = scores.weighted
    return {
        "accuracy": scores.correct / scores.n,
        "precision": weighted.precision,
        "recall": weighted.recall,
        "f1": weighted.f1,
    }


def paired_change(
    predictions: "pd.DataFrame", earlier: Mapping[str, str], labels: tuple[str, ...], *, seed: int, resamples: int
) -> PairedChange:
    """Test the new predictions against the earlier ones.

    Args:
        predictions: the new ones: columns review_id, label, predicted.
        earlier: the earlier ones, as from `earlier_predictions`.
        labels: all labels.
        seed: seed of the bootstrap.
        resamples: number of its resamples.
    """
    new = predictions[predictions[ID].isin(list(earlier))]
    old = new[[ID, LABEL]].assign(**{PREDICTED: new[ID].map(dict(earlier))})
    test = pairwise_tests({"earlier": Pair(new, old)}, labels, seed=seed, resamples=resamples)["earlier"]
    return PairedChange(len(new), test)


def to_text(change: PairedChange) -> str:
    """One line: the differences with their intervals, the test and its verdict."""
    test = change.test
    differences = f"accuracy {_with_bounds(test.difference)}, F1 {_with_bounds(test.f1_difference)}"
    counts = f"{test.only_this_right} right only now, {test.only_other_right} right only before"
    least = test.detectable_difference
    hint = f"; these reviews can show a difference of about {100 * least:.0f} points or more" if least else ""
    verdict = f"{test.verdict}{hint if test.verdict == 'undecided' else ''}"
    return (
        f"on {counted(change.n, 'review')} of both evaluations: {differences} (95 % intervals); {counts}, "
        f"McNemar's test {p_value(test.mcnemar_p)}: {verdict}"
    )


def _with_bounds(difference: Interval) -> str:
    return f"{points(difference.value)} points [{points(difference.low)}, {points(difference.high)}]"


def _refuse_other_evaluation(path: Path, rows: tuple[Row, ...], earlier: EarlierMetrics) -> None:
    if LABEL not in rows[0].cells:
        return
    accuracy = sum(row.cells[LABEL] == row.cells[PREDICTED] for row in rows) / len(rows)
    if abs(accuracy - earlier.scores["accuracy"]) > TOLERANCE:
        raise DataError(
            f"{path} is from another evaluation than {earlier.path.name}: its accuracy is {accuracy:.3f}, "
            f"not {earlier.scores['accuracy']:.3f}"
        )


def _is_same_file(rows: tuple[Row, ...], earlier: EarlierMetrics, truth: GroundTruth) -> bool:
    """Whether the ids mean the same reviews. The same ids, such as line-2, may be in any file."""
    if ID not in rows[0].cells:
        return False
    if earlier.test_sha256 is not None:
        return earlier.test_sha256 == truth.sha256
    labels = dict(zip(truth.reviews[ID], truth.reviews[LABEL], strict=True))
    return len(rows) == len(labels) and all(labels.get(row.cells[ID]) == row.cells.get(LABEL) for row in rows)


def _by_id(rows: tuple[Row, ...], reviews: "pd.DataFrame") -> dict[str, str]:
    wanted = set(reviews[ID])
    return {row.cells[ID]: row.cells[PREDICTED] for row in rows if row.cells[ID] in wanted}


def _by_content(rows: tuple[Row, ...], truth: GroundTruth) -> dict[str, str]:
    if KEY not in rows[0].cells:
        return _by_text(rows, truth.reviews)
    predicted = {row.cells[KEY]: row.cells[PREDICTED] for row in rows}
    keys = review_keys(truth.reviews["text"], truth.data.language)
    return {review: predicted[key] for review, key in zip(truth.reviews[ID], keys, strict=True) if key in predicted}


def _by_text(rows: tuple[Row, ...], reviews: "pd.DataFrame") -> dict[str, str]:
    column = next((name for name in TEXT_COLUMNS if name in rows[0].cells), None)
    if column is None:
        return {}
    predicted = {normalise(row.cells[column]): row.cells[PREDICTED] for row in rows}
    texts = zip(reviews[ID], reviews["text"], strict=True)
    return {review: predicted[text] for review, text in texts if text in predicted}
