"""One arm against another on the same reviews: is it better, worse, or can this test set not decide?

A verdict uses the exact McNemar test, its p-value adjusted by Holm for the number of tests in the same table, and the
interval of the paired bootstrap. Per label the same test asks which arm handles the label better: a review counts as
handled when the label was given where it belongs, or not given where it does not; adjusted for the number of labels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.comparison_file import LabelTest, PairwiseTest
from reviewtune.evaluation.metrics.bootstrap import score_differences
from reviewtune.evaluation.metrics.significance import (
    ALPHA,
    DIGITS,
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


class Pair(NamedTuple):
    """Predictions of two arms: columns review_id, label, predicted; in any order of rows."""

    this: "pd.DataFrame"
    other: "pd.DataFrame"


def pairwise_tests(
    pairs: Mapping[str, Pair], labels: tuple[str, ...], *, seed: int, resamples: int
) -> dict[str, PairwiseTest]:
    """Test each pair; Holm's correction counts all of them.

    Args:
        pairs: name of the test -> predictions of its two arms.
        labels: all labels, in the order of the list.
        seed: seed of the bootstrap.
        resamples: number of its resamples.

    Raises:
        DataError: the two arms of a pair did not classify the same reviews.
    """
    joined = {name: _joined(pair) for name, pair in pairs.items()}
    tests = {name: mcnemar(*_correct(table)) for name, table in joined.items()}
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return {
        name: _pairwise_test(table, tests[name], adjusted[name], labels, seed=seed, resamples=resamples)
        for name, table in joined.items()
    }


def correct_pairs(pair: Pair) -> tuple[list[bool], list[bool]]:
    """Whether each review was classified correctly, by this arm and by the other.

    Raises:
        DataError: the two arms did not classify the same reviews.
    """
    return _correct(_joined(pair))


def _pairwise_test(
    table: "pd.DataFrame", test: McNemar, holm_p: float, labels: tuple[str, ...], *, seed: int, resamples: int
) -> PairwiseTest:
    truth, this, other = (table[column].tolist() for column in ("label", "this", "other"))
    difference = accuracy_difference(*_correct(table), seed=seed, resamples=resamples)
    scores = score_differences(truth, this, other, labels=labels, seed=seed, resamples=resamples)
    detectable = detectable_difference((test.only_first + test.only_second) / len(table), len(table))
    return PairwiseTest(
        difference=difference.rounded(),
        f1_difference=scores["f1"].rounded(),
        mcnemar_p=round(test.p, DIGITS),
        holm_p=round(holm_p, DIGITS),
        only_this_right=test.only_first,
        only_other_right=test.only_second,
        detectable_difference=None if detectable is None else round(detectable, DIGITS),
        verdict=verdict(difference, holm_p),
        per_label=_label_tests(table, {label: scores[f"label.{label}.f1"] for label in labels}),
    )


def _label_tests(table: "pd.DataFrame", f1_differences: Mapping[str, Interval]) -> dict[str, LabelTest]:
    tests = {label: mcnemar(*_handled(table, label)) for label in f1_differences}
    adjusted = holm([test.p for test in tests.values()])
    return {
        label: LabelTest(
            f1_difference=f1_differences[label].rounded(),
            only_this_right=test.only_first,
            only_other_right=test.only_second,
            holm_p=round(holm_p, DIGITS),
            verdict=_label_verdict(test, holm_p),
        )
        for (label, test), holm_p in zip(tests.items(), adjusted, strict=True)
    }


def _label_verdict(test: McNemar, holm_p: float) -> Verdict:
    lead = test.only_first - test.only_second
    if holm_p >= ALPHA or not lead:
        return "undecided"
    return "better" if lead > 0 else "worse"


def _joined(pair: Pair) -> "pd.DataFrame":
    """label, this, other: one row per review, in the other arm's order."""
    columns = ["review_id", "label", "predicted"]
    this = pair.this[columns].rename(columns={"predicted": "this"})
    other = pair.other[columns].rename(columns={"predicted": "other"})
    for part in (this, other):
        repeated = part["review_id"][part["review_id"].duplicated()]
        if len(repeated):
            raise DataError(f"two reviews have the id {repeated.iloc[0]!r}")
    table = other.merge(this, on=["review_id", "label"], how="left")
    if len(this) != len(other) or table["this"].isna().any():
        raise DataError("two arms classified different reviews: run `dvc repro` to score both on the same test file")
    return table


def _correct(table: "pd.DataFrame") -> tuple[list[bool], list[bool]]:
    """Whether each review was classified correctly, by this arm and by the other."""
    this, other = ((table[side] == table["label"]).tolist() for side in ("this", "other"))
    return this, other


def _handled(table: "pd.DataFrame", label: str) -> tuple[list[bool], list[bool]]:
    """Whether the label was given where it belongs, or not given where it does not; by this arm and by the other."""
    belongs = table["label"] == label
    this, other = (((table[side] == label) == belongs).tolist() for side in ("this", "other"))
    return this, other
