"""How far each arm's confidence can be trusted: calibration, and what abstaining from doubtful reviews gains."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reviewtune.evaluation.comparison.comparison_file import AbstentionReport, ConfidenceReport, ReliabilityBin
from reviewtune.evaluation.metrics.calibration import (
    NEVER,
    Abstention,
    Bin,
    abstain,
    calibration_error,
    coverage_curve,
    reliability,
    threshold_for,
)
from reviewtune.evaluation.metrics.significance import CALIBRATION_RESAMPLES, DIGITS

if TYPE_CHECKING:
    import pandas as pd

    Predictions = Mapping[str, pd.DataFrame]

THRESHOLD_DIGITS = 4


def confidence_reports(
    predictions: "Predictions", thresholds: Mapping[str, float], *, wanted_accuracy: float, seed: int
) -> dict[str, ConfidenceReport]:
    """Report on each arm that has confidences.

    Args:
        predictions: each arm's predictions: columns label, predicted, and confidence where it has one.
        thresholds: those of the arms that have one, from `thresholds_for`.
        wanted_accuracy: the accuracy that the thresholds were chosen for.
        seed: seed of the bootstrap.
    """
    reports = {}
    for name, table in _with_confidence(predictions).items():
        columns = _columns(table)
        answered = abstain(*columns, threshold=thresholds[name]) if name in thresholds else None
        reports[name] = ConfidenceReport(
            calibration_error=calibration_error(*columns, seed=seed, resamples=CALIBRATION_RESAMPLES).rounded(),
            reliability=tuple(_rounded(interval) for interval in reliability(*columns)),
            abstention=abstention_report(answered, wanted_accuracy) if answered else None,
        )
    return reports


def thresholds_for(validation: "Predictions", wanted_accuracy: float) -> dict[str, float]:
    """The confidence from which on each arm reaches the accuracy on the validation reviews; `NEVER` if it does not.

    Args:
        validation: predictions on the validation reviews, by arm; arms without a confidence are left out.
        wanted_accuracy: the accuracy to reach.
    """
    return {
        name: threshold_for(*_columns(table), wanted_accuracy) for name, table in _with_confidence(validation).items()
    }


def abstention_report(abstention: Abstention, wanted_accuracy: float) -> AbstentionReport:
    """The outcome as comparison.json holds it."""
    threshold = abstention.threshold
    return AbstentionReport(
        wanted_accuracy=wanted_accuracy,
        threshold=None if threshold == NEVER else round(threshold, THRESHOLD_DIGITS),
        coverage=abstention.coverage.rounded(),
        accuracy=abstention.accuracy.rounded() if abstention.accuracy else None,
    )


def coverage_table(predictions: "Predictions") -> "pd.DataFrame":
    """The coverage-accuracy curve of each arm: arm, threshold, coverage, accuracy."""
    import pandas as pd

    rows = [
        {"arm": name, **point._asdict()}
        for name, table in _with_confidence(predictions).items()
        for point in coverage_curve(*_columns(table))
    ]
    return pd.DataFrame(rows, columns=["arm", "threshold", "coverage", "accuracy"]).round(DIGITS)


def _rounded(interval: Bin) -> ReliabilityBin:
    return ReliabilityBin(
        low=interval.low,
        n=interval.n,
        confidence=round(interval.confidence, DIGITS),
        accuracy=interval.accuracy.rounded(),
    )


def _with_confidence(predictions: "Predictions") -> "dict[str, pd.DataFrame]":
    return {name: table for name, table in predictions.items() if "confidence" in table and len(table) > 1}


def _columns(table: "pd.DataFrame") -> tuple[list[float], list[bool]]:
    """Confidences, and whether each review was classified correctly."""
    correct: list[bool] = (table["label"] == table["predicted"]).tolist()
    return table["confidence"].astype(float).tolist(), correct
