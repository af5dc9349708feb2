"""A small model first, and who else for the reviews that it is unsure of: a larger model or a person.

Cost and accuracy are measured: the second's own answers and price to just the reviews that reach it. A person's answers
are those of the second annotator in the data; the price of a person's answer comes from conf/evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.calibration import Abstention, abstain
from reviewtune.evaluation.metrics.significance import Interval, proportion

if TYPE_CHECKING:
    import pandas as pd

PERSON = "person"


@dataclass(frozen=True)
class Cascade:
    """Accuracy of both together; `cost_per_1k` in USD for 1,000 reviews of the mix that was measured."""

    first: str
    second: str
    abstention: Abstention
    accuracy: Interval
    second_accuracy: Interval | None  # on the reviews that reach it; None when none does
    cost_per_1k: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            **self.abstention.as_json(),
            "routed": round(1 - self.abstention.coverage.value, 6),
            "second_accuracy": self.second_accuracy.as_json() if self.second_accuracy else None,
            "cascade_accuracy": self.accuracy.as_json(),
            "cost_per_1k": None if self.cost_per_1k is None else round(self.cost_per_1k, 6),
        }


def cascade(
    names: tuple[str, str],
    predictions: "pd.DataFrame",
    second: Sequence[str],
    *,
    costs: tuple[float | None, float | None],
    wanted: float,
    seed: int,
) -> Cascade:
    """`predictions` are the first's (columns label, predicted, confidence); `second` are the other's answers to the
    same reviews in the same order; `costs` are USD for 1,000 reviews of each alone, None where unknown.

    Raises:
        DataError: the first has no confidence.
    """
    if "confidence" not in predictions:
        raise DataError(f"arm {names[0]} has no confidence to route by; give it label_scores: raw")
    correct = (predictions["label"] == predictions["predicted"]).tolist()
    doubt = abstain(predictions["confidence"].tolist(), correct, wanted=wanted, seed=seed)
    other = (predictions["label"] == list(second)).to_numpy()
    right = [mine if kept else his for mine, his, kept in zip(correct, other.tolist(), doubt.answered, strict=True)]
    routed = ~doubt.answered
    return Cascade(
        *names,
        doubt,
        proportion(sum(right), len(right)),
        proportion(int(other[routed].sum()), int(routed.sum())) if routed.any() else None,
        None if costs[0] is None or costs[1] is None else costs[0] + (1 - doubt.coverage.value) * costs[1],
    )
