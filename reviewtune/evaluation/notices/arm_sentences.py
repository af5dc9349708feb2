"""Sentences about one evaluated arm: how its labels were decided, and which labels it never answers."""

from collections.abc import Mapping
from typing import Protocol

from reviewtune.core.config.section import LabelScoring
from reviewtune.core.formatting import with_interval
from reviewtune.evaluation.metrics_file import Decider, ValidationMetrics


class Decided(Protocol):
    """What is known about an arm's decision, in metrics.json and in comparison.json."""

    @property
    def arm(self) -> str: ...
    @property
    def label_scores(self) -> LabelScoring | None: ...
    @property
    def decided_by(self) -> Decider | None: ...
    @property
    def validation(self) -> ValidationMetrics | None: ...


def choice_sentence(arm: Decided) -> str | None:
    """Whether `label_scores: auto` chose the correction, and both validation figures; None: nothing was chosen."""
    if arm.label_scores != "auto":
        return None
    verb = "is used" if arm.decided_by == "corrected" else "is not used"
    known = arm.validation
    if known is None or known.accuracy_as_answered is None or known.accuracy_prior_corrected is None:
        return f"{arm.arm}: label prior correction {verb}: there were no validation reviews to choose on"
    why = "it is better" if arm.decided_by == "corrected" else "it is not better"
    return (
        f"{arm.arm}: label prior correction {verb}, because {why} on the {known.n} validation reviews: accuracy "
        f"{with_interval(known.accuracy_as_answered)} as answered, "
        f"{with_interval(known.accuracy_prior_corrected)} with label prior correction"
    )


def never_answered_sentence(arm: str, labels: Mapping[str, int], *, of: int, shown: int | None = None) -> str | None:
    """Which labels an arm never answers, those with most reviews first; None: it answers each.

    Args:
        arm: the arm's name.
        labels: number of test reviews of each label that it never answers; those without reviews do not count.
        of: number of labels in the list.
        shown: how many labels to name at most; None: all.
    """
    missed = sorted(((label, n) for label, n in labels.items() if n), key=lambda item: (-item[1], item[0]))
    if not missed:
        return None
    names = ", ".join(f"{label} ({n} review{'s' * (n != 1)})" for label, n in missed[:shown])
    more = f" and {len(missed) - shown} more" if shown is not None and len(missed) > shown else ""
    return f"{arm} never answers {len(missed)} of {of} labels: {names}{more}"
