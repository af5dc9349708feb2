"""How right a model is at each confidence: isotonic regression on the validation reviews, kept as a few points.

Source: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
"""

from collections.abc import Sequence

from reviewtune.analyzer.served_model import Calibration
from reviewtune.errors import DataError

MINIMUM = 30
"""Validation reviews; fewer say too little about any confidence."""
DIGITS = 6
"""Decimals of the points: more than the confidences have, and the same bytes on every machine."""


def fit_calibration(confidence: Sequence[float], correct: Sequence[bool]) -> Calibration | None:
    """The map from confidence to the share of correct answers, or None if there are fewer than MINIMUM reviews.

    No share is below 1 / (n + 2) or above (n + 1) / (n + 2), Laplace's rule of succession for n reviews without a
    right or without a wrong answer: n reviews cannot show that a model is always right.

    Args:
        confidence: of each validation review's label, in [0, 1].
        correct: whether that label is right.

    Raises:
        DataError: the lengths differ, or a confidence is not in [0, 1].
    """
    if len(confidence) != len(correct):
        raise DataError(
            f"calibration: the numbers of confidences ({len(confidence)}) and of answers ({len(correct)}) differ"
        )
    if not all(0.0 <= value <= 1.0 for value in confidence):
        raise DataError("calibration: a confidence must lie between 0 and 1")
    n = len(confidence)
    if n < MINIMUM:
        return None
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2), out_of_bounds="clip")
    fitted.fit(list(confidence), [float(right) for right in correct])
    points = dict(zip(_rounded(fitted.X_thresholds_), _rounded(fitted.y_thresholds_), strict=True))
    return Calibration(confidence=tuple(points), accuracy=tuple(points.values()))


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
