"""What the user should know about fixed sides: one line each, for the stage, a sweep and check-data."""

from collections.abc import Sequence
from typing import NamedTuple

from reviewtune.core.formatting import counted, listed, percent
from reviewtune.data.sides.side_names import SIDES

SHOWN = 20  # reviews that a note names
FAR = 0.02  # from its share, the test split is worth a note
FREEZE = "`reviewtune freeze-splits`"


class FixedReviews(NamedTuple):
    """How many reviews have a side.

    Args:
        data: name of the data set.
        reviews: all of them.
        frozen: those that the file of frozen sides has.
        given: those that only the file of reviews gives a side.
        in_file: all reviews in the file of frozen sides, those of other data sets and removed ones included.
    """

    data: str
    reviews: int
    frozen: int
    given: int
    in_file: int


def on_fixed(fixed: FixedReviews) -> list[str]:
    """Which reviews keep their side, and for which ones the settings decide."""
    if not fixed.frozen and not fixed.given:
        return _on_other_data(fixed) if fixed.in_file else []
    others = fixed.reviews - fixed.frozen - fixed.given
    whose = f"the {others:,} others" if others else "no review"
    by_file = f", {fixed.given:,} have the side that data.columns.split gives" if fixed.given else ""
    kept = f"{fixed.frozen:,} of {counted(fixed.reviews, 'review')} keep their frozen side{by_file}"
    lines = [f"{kept}; split.test, split.validation and split.seed apply to {whose}"]
    if fixed.frozen and 2 * fixed.frozen < fixed.reviews:
        question = "have its texts, data.path or data.language changed since?"
        lines.append(f"most reviews of {fixed.data} are not in data/frozen_splits.csv: {question}")
    if fixed.frozen and others:
        lines.append(f"{others:,} are not frozen yet and may move when reviews are added: {FREEZE} keeps their side")
    return lines


def on_share(test: int, n: int, *, wanted: float, labels: int) -> list[str]:
    """A note if `test` of `n` distinct reviews is far from split.test; one review per label is rounding."""
    if abs(test - wanted * n) <= max(labels, FAR * n):
        return []
    return [f"{percent(test / n)} of the distinct reviews are test reviews, but split.test is {percent(wanted)}"]


def on_left_out(ids: Sequence[str]) -> list[str]:
    """Which reviews are in none of the splits, and why."""
    if not ids:
        return []
    why = "because near-duplicates of them are on another side (split.similarity)"
    return [f"{counted(len(ids), 'review')} left out, {why}: {listed(ids, shown=SHOWN)}"]


def on_labels(labels: Sequence[str], sides: Sequence[str]) -> list[str]:
    """Labels that a side lacks, because the reviews that it would need have another side."""
    present = set(zip(labels, sides, strict=True))
    lacking = {side: [label for label in sorted(set(labels)) if (label, side) not in present] for side in SIDES}
    return [
        f"side {side} has no review of {', '.join(names)}: no review moves, so label new ones"
        for side, names in lacking.items()
        if names
    ]


def _on_other_data(fixed: FixedReviews) -> list[str]:
    drawn = f"none of the {counted(fixed.reviews, 'review')} of {fixed.data} is in data/frozen_splits.csv"
    return [f"{drawn}, which has {fixed.in_file:,} others: their sides were drawn; {FREEZE} keeps them"]
