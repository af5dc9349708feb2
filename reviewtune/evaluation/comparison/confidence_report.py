"""The arms' confidence in the comparison: calibration, abstention and the cascade, from predictions.csv alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reviewtune.core.config import CascadeConfig
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.cascade import PERSON, cascade
from reviewtune.evaluation.metrics.calibration import abstain, calibration_error, coverage_curve, reliability

if TYPE_CHECKING:
    import pandas as pd

    Tables = Mapping[str, pd.DataFrame]

RESAMPLES = 500
DIGITS = 6


def confidence_report(predictions: "Tables", *, wanted: float, seed: int) -> dict[str, Any]:
    """For each arm that has confidences: calibration error, reliability, and what abstaining brings."""
    report: dict[str, Any] = {}
    for name, table in _with_confidence(predictions).items():
        columns = _columns(table)
        bins = [
            {
                "low": one.low,
                "n": one.n,
                "confidence": round(one.confidence, DIGITS),
                "accuracy": one.accuracy.as_json(),
            }
            for one in reliability(*columns)
        ]
        error = calibration_error(*columns, seed=seed, resamples=RESAMPLES)
        doubt = abstain(*columns, wanted=wanted, seed=seed)
        report[name] = {"calibration_error": error.as_json(), "reliability": bins, "abstention": doubt.as_json()}
    return report


def coverage_table(predictions: "Tables") -> "pd.DataFrame":
    """The coverage-accuracy curve of each arm: arm, threshold, coverage, accuracy."""
    import pandas as pd

    rows = [
        {"arm": name, **point._asdict()}
        for name, table in _with_confidence(predictions).items()
        for point in coverage_curve(*_columns(table))
    ]
    return pd.DataFrame(rows, columns=["arm", "threshold", "coverage", "accuracy"]).round(DIGITS)


def cascade_report(
    predictions: "Tables", costs: Mapping[str, float | None], settings: CascadeConfig, *, seed: int
) -> dict[str, Any] | None:
    """The configured cascade; None where its first arm has no confidence, or nobody labelled a second time.

    `costs` are USD for 1,000 reviews, an arm each.

    Raises:
        DataError: the cascade names an arm that was not evaluated.
    """
    for name in (settings.first, settings.second):
        if name not in predictions and name != PERSON:
            raise DataError(
                f"evaluation.cascade: arm '{name}' was not evaluated; it is none of {', '.join(predictions)}"
            )
    first = predictions[settings.first]
    if "confidence" not in first:
        return None
    if settings.second == PERSON:
        answers: list[str] | None = _second_labels(first)
        price: float | None = 1000 * settings.person_usd
    else:
        ordered = predictions[settings.second].set_index("review_id").loc[first["review_id"].tolist()]
        answers, price = ordered["predicted"].tolist(), costs.get(settings.second)
    if answers is None:
        return None
    sides = (settings.first, settings.second)
    prices = (costs.get(settings.first), price)
    return cascade(sides, first, answers, costs=prices, wanted=settings.wanted_accuracy, seed=seed).as_json()


def _second_labels(table: "pd.DataFrame") -> list[str] | None:
    if "label_second" not in table or (table["label_second"] == "").any():
        return None
    labels: list[str] = table["label_second"].tolist()
    return labels


def _with_confidence(predictions: "Tables") -> "dict[str, pd.DataFrame]":
    return {name: table for name, table in predictions.items() if "confidence" in table and len(table) > 1}


def _columns(table: "pd.DataFrame") -> tuple[list[float], list[bool]]:
    right: list[bool] = (table["label"] == table["predicted"]).tolist()
    return table["confidence"].astype(float).tolist(), right
