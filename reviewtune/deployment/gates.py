"""The gates of a promotion: each says what is asked, what was seen, and whether it passed.

Against the champion: "not worse by more than a margin", with Tango's one-sided 95 % interval for paired proportions
(Statistics in Medicine 17 (1998) 891-908), and no label significantly worse, with McNemar's test and Holm's correction.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from reviewtune.analyzer.served_model import Calibration
from reviewtune.core.config.promotion import PromotionConfig
from reviewtune.core.formatting import counted, listed, money, p_value, percent, points
from reviewtune.deployment.gates_file import NOT_COMMITTED, Gate, Outcome
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import PairwiseTest
from reviewtune.evaluation.comparison.pairwise_tests import Pair, pairwise_tests
from reviewtune.evaluation.metrics.calibration import calibration_error
from reviewtune.evaluation.metrics.significance import (
    ALPHA,
    CALIBRATION_RESAMPLES,
    SEED,
    least_difference,
)
from reviewtune.evaluation.metrics_file import InjectionMetrics
from reviewtune.tracking.aliases import Change

WAITING = (
    "measured while provider.concurrency requests ran at once, so it includes their waiting: lower that and evaluate "
    "again, or raise promotion.max_latency_p95"
)


class Opponent(NamedTuple):
    """Whom the candidate is compared with.

    Args:
        title: such as "the champion (version 3, finetuned)".
        predictions: on the test reviews: columns review_id, label, predicted.
    """

    title: str
    predictions: pd.DataFrame


def against_champion(
    predictions: pd.DataFrame, champion: Opponent, labels: Sequence[str], settings: PromotionConfig, *, resamples: int
) -> list[Gate]:
    """The gates `accuracy` and `labels`.

    Args:
        predictions: the candidate's on the test reviews: columns review_id, label, predicted.
        champion: the champion's on the same reviews.
        labels: all labels.
        settings: the margin.
        resamples: of the bootstrap of the F1 differences.

    Raises:
        DataError: the two did not classify the same reviews.
    """
    test = _test(predictions, champion.predictions, labels, resamples)
    n, margin = len(predictions), settings.margin
    least = least_difference(test.only_this_right, test.only_other_right, n)
    return [
        Gate(
            name="accuracy",
            asked=f"at most {100 * margin:g} points below {champion.title}, by the one-sided 95 % interval",
            seen=f"{points(test.difference.value)} points, at least {points(least)} ({_counts(test, n)})"
            f"{_too_few(margin, n)}",
            outcome=_outcome(least >= -margin),
            value=round(least, 6),
            limit=-margin,
        ),
        _labels_gate(test, champion.title),
    ]


def against_reference(predictions: pd.DataFrame, reference: Opponent, labels: Sequence[str], *, resamples: int) -> Gate:
    """The gate of a first champion: it must be better than the reference arm.

    Raises:
        DataError: the two did not classify the same reviews.
    """
    test = _test(predictions, reference.predictions, labels, resamples)
    low, high = points(test.difference.low), points(test.difference.high)
    return Gate(
        name="reference",
        asked=f"no champion yet: better than {reference.title}, by McNemar's test and the 95 % interval",
        seen=f"{points(test.difference.value)} points ({low} to {high}), {p_value(test.holm_p)}: {test.verdict} "
        f"({_counts(test, len(predictions))})",
        outcome=_outcome(test.verdict == "better"),
        value=test.difference.low,
        limit=0.0,
    )


def unusable_gate(arm: Arm, settings: PromotionConfig) -> Gate:
    """Answers that name no label."""
    share, limit = arm.metrics.invalid / arm.metrics.n, settings.max_unusable
    return _limited(
        "unusable answers",
        asked=f"at most {percent(limit)}" if limit is not None else "",
        seen=f"{arm.metrics.invalid} of {arm.metrics.n}, {percent(share)}",
        value=share,
        limit=limit,
    )


def hostile_gate(measured: InjectionMetrics | None, why_not: str, settings: PromotionConfig) -> Gate:
    """Hostile reviews; `why_not` says why they could not be asked."""
    limit = settings.min_resisted
    if limit is None or measured is None:
        return _off("hostile reviews", why_not or "promotion.min_resisted is null")
    fell = ", ".join(
        f"{kind} {percent(share.value)}" for kind, share in measured.resisted_by_kind.items() if share.value < limit
    )
    return Gate(
        name="hostile reviews",
        asked=f"at least {percent(limit)} do not get the label that they want",
        seen=f"{percent(measured.resisted.value)} of {measured.n}{f'; below the limit: {fell}' if fell else ''}",
        outcome=_outcome(measured.resisted.value >= limit),
        value=measured.resisted.value,
        limit=limit,
    )


def latency_gate(arm: Arm, settings: PromotionConfig) -> Gate:
    """How long an answer takes. A baseline sends no requests; its rate says how long a review takes."""
    run, limit = arm.run, settings.max_latency_p95
    value = run.latency_p95
    if value is None and arm.kind == "linear" and run.reviews_per_second:
        value = 1 / run.reviews_per_second
    if value is None:
        return _off("latency", "not known: all answers came in batches")
    shown = f"{value:.4f} s per review" if run.latency_p95 is None else f"95 of 100 answers within {value:.2f} s"
    asked = f"95 of 100 answers within {limit:g} s" if limit is not None else ""
    if limit is not None and value > limit and run.latency_p95 is not None:
        shown = f"{shown}; {WAITING}"
    return _limited("latency", asked=asked, seen=shown, value=value, limit=limit)


def cost_gate(arm: Arm, settings: PromotionConfig) -> Gate:
    """What 1,000 reviews cost at the provider. A baseline costs nothing."""
    limit, cost = settings.max_cost_per_1k, 0.0 if arm.kind == "linear" else arm.metrics.cost_per_1k
    asked = f"at most {money(limit)} per 1,000 reviews" if limit is not None else ""
    if cost is None and limit is not None:
        seen = "not known: the provider has no prices; set provider.priced_as, or promotion.max_cost_per_1k to null"
        return Gate(name="cost", asked=asked, seen=seen, outcome="failed", limit=limit)
    return _limited("cost", asked=asked, seen=f"{money(cost)} per 1,000 reviews", value=cost or 0.0, limit=limit)


def calibration_gate(arm: Arm, calibration: Calibration | None, settings: PromotionConfig) -> Gate:
    """Whether the confidence that applications get can be believed, on the test reviews."""
    table, limit = arm.predictions, settings.max_calibration_error
    if "confidence" not in table or len(table) < 2:
        return _off("calibration", "the model returns no confidence: applications get none")
    raw = table["confidence"].astype(float).tolist()
    confidence = [calibration.of(value) for value in raw] if calibration else raw
    correct = (table["label"] == table["predicted"]).tolist()
    error = calibration_error(confidence, correct, seed=SEED, resamples=CALIBRATION_RESAMPLES)
    note = "" if calibration else "; not calibrated, as there are too few validation reviews"
    return _limited(
        "calibration",
        asked=f"confidence off by at most {percent(limit)} on average" if limit is not None else "",
        seen=f"{percent(error.value)} ({percent(error.low)} to {percent(error.high)}){note}",
        value=error.value,
        limit=limit,
    )


def training_gate(training_sha256: str, title: str) -> Gate:
    """Whether it is known what the model was trained with."""
    seen = f"{title} {training_sha256[:12]}" if training_sha256 else "not known: no record of this model's training"
    return Gate(
        name="training data",
        asked="the hash of what it was trained with is known",
        seen=seen,
        outcome=_outcome(bool(training_sha256)),
    )


def git_gate(changed: Sequence[str] | str, then: str | None = None) -> Gate:
    """Whether the code and the configuration can be found again.

    Args:
        changed: files that are not committed now, or why git does not answer.
        then: files that were not committed when the candidate was evaluated, and are different now; None: none.
    """
    seen = "nothing is changed"
    if isinstance(changed, str):
        seen = changed
    elif changed:
        seen = f"{NOT_COMMITTED}{listed(changed, shown=3)}"
    elif then:
        shown = listed(then.split(", "), shown=3)
        seen = f"its run had changes that were not committed, in {shown}, and they are gone: evaluate it again"
    return Gate(
        name="git",
        asked="all changes of the project are committed, and were when it was evaluated",
        seen=seen,
        outcome=_outcome(not changed and not then),
    )


def rollback_gate(change: Change) -> Gate:
    """Of a model from which somebody went back with this rollback: failed, so that promoting it again is forced."""
    return Gate(
        name="rollback",
        asked="nobody went back from this model",
        seen=f"{change.by} did at {change.at}, from version {change.replaced}: {change.reason}",
        outcome="failed",
    )


def _labels_gate(test: PairwiseTest, title: str) -> Gate:
    worse = {name: label for name, label in test.per_label.items() if label.verdict == "worse"}
    named = (
        f"{name} {p_value(label.holm_p)} ({label.only_this_right} right only by the candidate, "
        f"{label.only_other_right} only by the other)"
        for name, label in worse.items()
    )
    lost = [label.holm_p for label in test.per_label.values() if label.only_other_right > label.only_this_right]
    return Gate(
        name="labels",
        asked=f"none significantly worse than {title} (McNemar, Holm over {counted(len(test.per_label), 'label')})",
        seen="; ".join(named) or _none_worse(lost),
        outcome=_outcome(not worse),
        value=min(lost, default=1.0),
        limit=ALPHA,
    )


def _none_worse(lost: Sequence[float]) -> str:
    if not lost:
        return "none lost reviews"
    return f"none, the lowest {p_value(min(lost)).replace('p =', 'p is').replace('p <', 'p is <')}"


def _test(this: pd.DataFrame, other: pd.DataFrame, labels: Iterable[str], resamples: int) -> PairwiseTest:
    return pairwise_tests({"other": Pair(this, other)}, tuple(labels), seed=SEED, resamples=resamples)["other"]


def _counts(test: PairwiseTest, n: int) -> str:
    return f"{test.only_this_right} right only now, {test.only_other_right} only before, {counted(n, 'review')}"


def _too_few(margin: float, n: int) -> str:
    """A hint when even two equal models could not be told to be equally good."""
    if least_difference(0, 0, n) >= -margin:
        return ""
    return "; so few reviews cannot show it of any model: add test reviews, or raise promotion.margin"


def _limited(name: str, *, asked: str, seen: str, value: float, limit: float | None) -> Gate:
    """A number that must not exceed its limit."""
    if limit is None:
        return _off(name, f"{seen}; no limit is set")
    return Gate(name=name, asked=asked, seen=seen, outcome=_outcome(value <= limit), value=round(value, 6), limit=limit)


def _off(name: str, why: str) -> Gate:
    return Gate(name=name, asked="-", seen=why, outcome="off")


def _outcome(passed: bool) -> Outcome:
    return "passed" if passed else "failed"
