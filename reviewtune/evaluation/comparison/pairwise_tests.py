"""One arm against another on the same reviews: is it better, worse, or can this test set not tell?

A verdict takes the exact McNemar test, its p-value adjusted by Holm for the number of duels beside it, and the interval
of the paired bootstrap. Per label the same test asks who handles the label better: a review counts as handled when the
label was given where it belongs, or not given where it does not; adjusted for the number of labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.bootstrap import score_differences
from reviewtune.evaluation.metrics.significance import (
    ALPHA,
    Interval,
    McNemar,
    Verdict,
    accuracy_difference,
    detectable_difference,
    holm,
    mcnemar,
    verdict,
)

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6


@dataclass(frozen=True)
class LabelDuel:
    """Who handles one label better; `p` is adjusted for the number of labels."""

    test: McNemar
    p: float
    f1: Interval

    @property
    def verdict(self) -> Verdict:
        ahead = self.test.only_first - self.test.only_second
        return "undecided" if self.p >= ALPHA or not ahead else "better" if ahead > 0 else "worse"

    def as_json(self) -> dict[str, Any]:
        return {
            "f1_difference": self.f1.as_json(),
            "only_this_right": self.test.only_first,
            "only_other_right": self.test.only_second,
            "holm_p": round(self.p, DIGITS),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Duel:
    """One arm against another on n reviews; differences are its score minus the other's. `p` is of the test alone,
    `holm_p` adjusted for all duels of its table."""

    n: int
    difference: Interval
    f1: Interval
    p: float
    holm_p: float
    only_this_right: int
    only_other_right: int
    per_label: Mapping[str, LabelDuel]

    @property
    def verdict(self) -> Verdict:
        return verdict(self.difference, self.holm_p)

    @property
    def detectable(self) -> float | None:
        """The smallest difference that so many reviews, and so much disagreement, let one see."""
        return detectable_difference((self.only_this_right + self.only_other_right) / self.n, self.n)

    def as_json(self, other: str) -> dict[str, Any]:
        """`other` names the other arm in the key of its count."""
        return {
            "difference": self.difference.as_json(),
            "f1_difference": self.f1.as_json(),
            "mcnemar_p": round(self.p, DIGITS),
            "holm_p": round(self.holm_p, DIGITS),
            "only_this_right": self.only_this_right,
            f"only_{other}_right": self.only_other_right,
            "detectable_difference": None if self.detectable is None else round(self.detectable, DIGITS),
            "verdict": self.verdict,
            "per_label": {label: one.as_json() for label, one in self.per_label.items()},
        }


def duels(
    pairs: "Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]", labels: tuple[str, ...], *, seed: int, resamples: int
) -> dict[str, Duel]:
    """Each pair of predictions (columns review_id, label, predicted) as a duel; one table, so one correction.

    Raises:
        DataError: a pair did not answer the same reviews.
    """
    joined = {name: _joined(this, other) for name, (this, other) in pairs.items()}
    tests = {name: mcnemar(*_right(table)) for name, table in joined.items()}
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return {
        name: _duel(table, tests[name], adjusted[name], labels, seed=seed, resamples=resamples)
        for name, table in joined.items()
    }


def _duel(
    table: "pd.DataFrame", test: McNemar, holm_p: float, labels: tuple[str, ...], *, seed: int, resamples: int
) -> Duel:
    difference = accuracy_difference(*_right(table), seed=seed, resamples=resamples)
    truth, this, other = (table[column].tolist() for column in ("label", "this", "other"))
    scores = score_differences(truth, this, other, labels=labels, seed=seed, resamples=resamples)
    tests = {label: mcnemar(*_handled(table, label)) for label in labels}
    adjusted = holm([one.p for one in tests.values()])
    per_label = {
        label: LabelDuel(one, p, scores[f"label.{label}.f1"])
        for (label, one), p in zip(tests.items(), adjusted, strict=True)
    }
    sides = (test.only_first, test.only_second)
    return Duel(len(table), difference, scores["f1"], test.p, holm_p, *sides, per_label)


def _joined(this: "pd.DataFrame", other: "pd.DataFrame") -> "pd.DataFrame":
    """label, this, other: a row a review, in the other's order."""
    columns = ["review_id", "label", "predicted"]
    mine = this[columns].rename(columns={"predicted": "this"})
    table = other[columns].rename(columns={"predicted": "other"}).merge(mine, on=["review_id", "label"], how="left")
    if len(this) != len(other) or table["this"].isna().any():
        raise DataError("two arms answered different reviews: run `dvc repro` to score both on the same test file")
    return table


def _right(table: "pd.DataFrame") -> tuple[list[bool], list[bool]]:
    one, other = ((table[side] == table["label"]).tolist() for side in ("this", "other"))
    return one, other


def _handled(table: "pd.DataFrame", label: str) -> tuple[list[bool], list[bool]]:
    """Given where it belongs, or not given where it does not."""
    belongs = table["label"] == label
    one, other = (((table[side] == label) == belongs).tolist() for side in ("this", "other"))
    return one, other
