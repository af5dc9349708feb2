"""Two-stage classification: one arm answers where it is confident, a second arm or a person takes the rest.

The threshold is chosen on the validation reviews. Accuracy and cost are measured on the test reviews: those of the
second on just the reviews that reach it. A person's answers are those of the second annotator in the data; the price of
a person's answer comes from conf/evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reviewtune.core.config.arms import CascadeConfig
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.comparison_file import Cascade
from reviewtune.evaluation.comparison.confidence_report import abstention_report
from reviewtune.evaluation.metrics.calibration import abstain
from reviewtune.evaluation.metrics.significance import DIGITS, Interval, proportion

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PERSON = "person"


@dataclass(frozen=True)
class First:
    """The arm that sees every review: columns label, predicted, confidence. Cost in USD per 1,000 reviews.

    It keeps the reviews with a confidence of at least `threshold`.
    """

    name: str
    predictions: "pd.DataFrame"
    cost_per_1k: float | None
    threshold: float


@dataclass(frozen=True)
class Second:
    """Who takes the rest: answers to the same reviews in the same order. Cost in USD per 1,000 reviews."""

    name: str
    answers: Sequence[str]
    cost_per_1k: float | None


def cascade_report(
    predictions: "Mapping[str, pd.DataFrame]",
    thresholds: Mapping[str, float],
    costs: Mapping[str, float | None],
    settings: CascadeConfig,
) -> Cascade | None:
    """Measure the configured cascade.

    Args:
        predictions: each arm's predictions: columns review_id, label, predicted, and confidence where it has one.
        thresholds: confidence thresholds by arm, chosen on the validation reviews.
        costs: USD per 1,000 reviews of each arm.
        settings: which arms, and the accuracy that the first must reach.

    Returns:
        None if the first arm has no confidence or no threshold, or a person is second and the data have no second
        label.

    Raises:
        DataError: the cascade names an arm that was not evaluated.
    """
    _refuse_unknown(settings, predictions)
    table = predictions[settings.first]
    second = _second(predictions, costs, settings)
    if "confidence" not in table or settings.first not in thresholds or second is None:
        return None
    first = First(settings.first, table, costs.get(settings.first), thresholds[settings.first])
    return cascade(first, second, wanted_accuracy=settings.wanted_accuracy)


def cascade(first: First, second: Second, *, wanted_accuracy: float) -> Cascade:
    """Accuracy and cost of both together.

    Raises:
        DataError: the first arm has no confidence.
    """
    table = first.predictions
    if "confidence" not in table:
        raise DataError(f"arm {first.name} has no confidence to route by; give it label_scores: raw")
    first_correct = (table["label"] == table["predicted"]).to_numpy()
    second_correct = (table["label"] == list(second.answers)).to_numpy()
    abstention = abstain(table["confidence"].tolist(), first_correct.tolist(), threshold=first.threshold)
    kept, routed = abstention_report(abstention, wanted_accuracy), ~abstention.answered
    return Cascade(
        first=first.name,
        second=second.name,
        wanted_accuracy=kept.wanted_accuracy,
        threshold=kept.threshold,
        coverage=kept.coverage,
        accuracy=kept.accuracy,
        routed=round(1 - abstention.coverage.value, DIGITS),
        second_accuracy=_accuracy(second_correct[routed]) if routed.any() else None,
        cascade_accuracy=_accuracy(np.where(routed, second_correct, first_correct)),
        cost_per_1k=_mixed_cost(first.cost_per_1k, second.cost_per_1k, 1 - abstention.coverage.value),
    )


def _refuse_unknown(settings: CascadeConfig, predictions: "Mapping[str, pd.DataFrame]") -> None:
    for name, others in ((settings.first, ()), (settings.second, (PERSON,))):
        if name not in (*predictions, *others):
            arms = ", ".join([*predictions, *others])
            raise DataError(f"evaluation.cascade: arm {name!r} was not evaluated; it is not one of: {arms}")


def _second(
    predictions: "Mapping[str, pd.DataFrame]", costs: Mapping[str, float | None], settings: CascadeConfig
) -> Second | None:
    """None if a person is second and a review has no second label."""
    table, name = predictions[settings.first], settings.second
    if name == PERSON:
        if "label_second" not in table or (table["label_second"] == "").any():
            return None
        return Second(name, table["label_second"].tolist(), 1000 * settings.person_usd)
    in_order = predictions[name].set_index("review_id").loc[table["review_id"].tolist()]
    return Second(name, in_order["predicted"].tolist(), costs.get(name))


def _accuracy(correct: "NDArray[np.bool_]") -> Interval:
    return proportion(int(correct.sum()), len(correct)).rounded()


def _mixed_cost(first: float | None, second: float | None, routed: float) -> float | None:
    """USD per 1,000 reviews, of which the share `routed` also reaches the second."""
    return None if first is None or second is None else round(first + routed * second, DIGITS)
