"""The sentences of the comparison: verdicts, cost, label prior, confidence, cascade, labels, optional measurements.

"Better" and "worse" are used only where the test and the interval agree; otherwise the verdict is "undecided".
"""

from collections.abc import Mapping
from typing import NamedTuple

from reviewtune.core.formatting import counted, money, p_value, percent, points, with_interval
from reviewtune.evaluation.comparison.cascade import PERSON
from reviewtune.evaluation.comparison.comparison_file import (
    AbstentionReport,
    ArmRow,
    Cascade,
    Comparison,
    CostComparison,
    PairwiseTest,
)
from reviewtune.evaluation.metrics.significance import Verdict
from reviewtune.evaluation.metrics_file import CheckpointMetrics, InjectionMetrics
from reviewtune.evaluation.notices.arm_sentences import choice_sentence, never_answered_sentence

DECIDED: tuple[Verdict, ...] = ("better", "worse")


class Names(NamedTuple):
    """Names of the two arms of a test."""

    this: str
    other: str


def sections(comparison: Comparison) -> dict[str, list[str]]:
    """Heading -> sentences; without the headings that have none."""
    by_heading = {
        "Labels never answered": never_answered_lines(comparison),
        "Label prior correction": prior_lines(comparison),
        "Confidence, abstention, cascade": confidence_lines(comparison),
        "Consistency, hostile reviews, checkpoints": optional_lines(comparison),
        "By label": label_lines(comparison),
    }
    return {heading: lines for heading, lines in by_heading.items() if lines}


def verdict_lines(comparison: Comparison, bold: str = "") -> list[str]:
    """One sentence per arm on the fine-tuned arm against it, the reference first; without a fine-tuned arm, on each
    arm against the reference.

    Args:
        comparison: content of comparison.json.
        bold: what to put around the verdict, such as `**`.
    """
    accuracies = {arm.arm: arm.accuracy.value for arm in comparison.arms}
    return [_verdict(names, test, accuracies, bold) for names, test in reported_tests(comparison).items()]


def reported_tests(comparison: Comparison) -> dict[Names, PairwiseTest]:
    """The tests to report, the one against the reference first."""
    if finetuned := comparison.finetuned:
        tests = {Names(finetuned.arm, other): test for other, test in comparison.finetuned_against.items()}
        return dict(sorted(tests.items(), key=lambda item: item[0].other != comparison.reference))
    return {
        Names(arm.arm, comparison.reference): arm.against_reference
        for arm in comparison.arms
        if arm.against_reference is not None
    }


def never_answered_lines(comparison: Comparison, shown: int | None = None) -> list[str]:
    """Labels that an arm never answers, the fine-tuned arm first, and labels that no test review has.

    Args:
        comparison: content of comparison.json.
        shown: how many labels to name at most for each arm; None: all.
    """
    arms = [arm for arm in comparison.arms if arm.kind != "majority"]  # which answers one label by definition
    arms.sort(key=lambda arm: arm.kind != "finetuned")
    total = len(comparison.labels)
    lines = [never_answered_sentence(arm.arm, arm.never_answered, of=total, shown=shown) for arm in arms]
    if comparison.without_reviews:
        names = ", ".join(comparison.without_reviews)
        lines.append(f"no test review has the label {names}: nothing is known about it; label more reviews")
    return [line for line in lines if line]


def prior_lines(comparison: Comparison) -> list[str]:
    """Whether the label prior correction was chosen, and what it changed, for each arm that can use it."""
    return [
        f"{choice_sentence(arm) or f'{arm.arm}: label prior correction is used'}; on the test reviews: accuracy "
        f"{with_interval(arm.accuracy_as_answered)} as answered, "
        f"{with_interval(arm.accuracy_prior_corrected)} with label prior correction"
        for arm in comparison.arms
        if (arm.decided_by == "corrected" or arm.label_scores == "auto")
        and arm.accuracy_as_answered
        and arm.accuracy_prior_corrected
    ]


def label_lines(comparison: Comparison) -> list[str]:
    """On which labels the fine-tuned arm is better or worse than each other arm."""
    finetuned = comparison.finetuned
    if finetuned is None:
        return []
    return [
        f"{finetuned.arm} against {other}: {_labels_decided(test)}"
        for other, test in comparison.finetuned_against.items()
    ]


def confidence_lines(comparison: Comparison) -> list[str]:
    """How far the fine-tuned arm's confidence can be trusted, and what the cascade achieves."""
    lines = []
    finetuned = comparison.finetuned
    if finetuned and (report := comparison.confidence.get(finetuned.arm)):
        error = with_interval(report.calibration_error)
        lines.append(f"{finetuned.arm}: expected calibration error {error}")
        if report.abstention:
            lines.append(f"{finetuned.arm}, answering only where it is confident{_abstention(report.abstention)}")
    if comparison.cascade:
        lines.append(_cascade(comparison.cascade))
    return lines


def optional_lines(comparison: Comparison) -> list[str]:
    """Repeated requests, hostile reviews and checkpoints, where they were measured."""
    return [line for arm in comparison.arms for line in _optional(arm)]


def cost_lines(comparison: Comparison) -> list[str]:
    """What training adds to the cost and when it pays off: at the provider's prices, if those are 0 at OpenAI's."""
    report, finetuned = comparison.economics, comparison.finetuned
    if report is None or finetuned is None:
        return []
    for costs, prices in ((report.at_provider, ""), (report.at_gpt_4o_mini, " at gpt-4o-mini's prices")):
        if costs and (costs.training_usd or costs.cost_per_1k_of_the_prompt):
            return _costs(costs, finetuned=finetuned.arm, other=report.against, prices=prices, why=_why(comparison))
    return ["this provider charges nothing"] if report.at_provider or report.at_gpt_4o_mini else []


def _verdict(names: Names, test: PairwiseTest, accuracies: Mapping[str, float], bold: str) -> str:
    this, other = names
    undecided = test.verdict == "undecided"
    verdict = f"undecided between {this} and {other}" if undecided else f"{this} is {test.verdict} than {other}"
    accuracy = f"accuracy {percent(accuracies[this])} against {percent(accuracies[other])}"
    bounds = f"{points(test.difference.low)} to {points(test.difference.high)}"
    evidence = f"95 % interval {bounds}, exact McNemar with Holm's correction {p_value(test.holm_p)}"
    counts = (
        f"only {this} is right on {counted(test.only_this_right, 'review')}, only {other} on {test.only_other_right}"
    )
    limit = f"; {_detectable(test.detectable_difference)}" if undecided else ""
    return f"{bold}{verdict}{bold}: {accuracy}, {points(test.difference.value)} points ({evidence}); {counts}{limit}."


def _detectable(difference: float | None) -> str:
    if difference is None:
        return "they disagree on too few reviews for this test set to show any difference"
    return f"this test set would often miss a true difference under {100 * difference:.1f} points"


def _labels_decided(test: PairwiseTest) -> str:
    labels = {word: [label for label, of in test.per_label.items() if of.verdict == word] for word in DECIDED}
    parts = [f"{word} on {', '.join(names)}" for word, names in labels.items() if names]
    return "; ".join(parts) or "undecided on every label"


def _abstention(report: AbstentionReport) -> str:
    on = " on the validation reviews" if report.thresholds is None else ""
    aim = f"chosen for an accuracy of {percent(report.wanted_accuracy)}{on}"
    known = [threshold for threshold in (report.threshold, *(report.thresholds or ())) if threshold is not None]
    thresholds = sorted({f"{threshold:.2f}" for threshold in known})
    limit = f" (probability of at least {' or '.join(thresholds)}, {aim})" if thresholds else ""
    if report.accuracy is None:
        return f"{limit or f' enough for an accuracy of {percent(report.wanted_accuracy)}{on}'}: answers no review"
    share = f"answers {percent(report.coverage.value)} of the reviews"
    return f"{limit}: {share}, with accuracy {with_interval(report.accuracy)}"


def _cascade(cascade: Cascade) -> str:
    second = "a person" if cascade.second == PERSON else cascade.second
    return (
        f"cascade: {cascade.first} answers where it is confident, {second} answers the other "
        f"{percent(cascade.routed)} of the reviews: accuracy {with_interval(cascade.cascade_accuracy)}, "
        f"cost {money(cascade.cost_per_1k)} per 1,000 reviews"
    )


def _optional(arm: ArmRow) -> list[str]:
    lines = [
        f"{arm.arm}, asked {result.repeats} times at {temperature}: the same label every time for "
        f"{with_interval(result.one_answer)} of the reviews"
        for temperature, result in (arm.consistency or {}).items()
    ]
    if arm.injections:
        lines.append(f"{arm.arm}: {_injections(arm.injections)}")
    if arm.checkpoint:
        lines.append(f"{arm.arm}: {_checkpoint(arm.checkpoint)}")
    return lines


def _injections(result: InjectionMetrics) -> str:
    failures = f"obeys {result.obeyed}, gives no usable answer to {result.unusable}"
    return f"resists {with_interval(result.resisted)} of {counted(result.n, 'hostile review')} ({failures})"


def _checkpoint(checkpoint: CheckpointMetrics) -> str:
    loss = "" if checkpoint.valid_loss is None else f", validation loss {checkpoint.valid_loss:.3f}"
    return (
        f"the model after epoch {checkpoint.epoch} (step {checkpoint.step}{loss}), for information; choose a "
        "checkpoint by its validation loss, because the best of several on the test reviews looks better than it is"
    )


def _why(comparison: Comparison) -> str:
    """Why costs are compared with just this prompt arm."""
    measured = any(arm.kind == "prompt" and arm.validation for arm in comparison.arms)
    return "the best prompt arm on the validation reviews" if measured else "not chosen by its accuracy"


def _costs(costs: CostComparison, *, finetuned: str, other: str, prices: str, why: str) -> list[str]:
    prompt = f"{other} ({why}) {money(costs.cost_per_1k_of_the_prompt)}"
    training = f"with training ({money(costs.training_usd)}) included"
    totals = ", ".join(f"{money(usd)} for {volume:,}" for volume, usd in costs.amortised_per_1k.items())
    return [
        f"cost per 1,000 reviews{prices}: {prompt}, {finetuned} {money(costs.cost_per_1k)} without training",
        f"{finetuned} per 1,000 reviews {training}, by total number of reviews: {totals}",
        f"with training included, {finetuned} {_break_even(costs.break_even_reviews, other)}",
    ]


def _break_even(reviews: int | None, other: str) -> str:
    if reviews is None:
        return f"never costs less than {other}"
    if reviews == 0:
        return f"costs no more than {other} from the first review on"
    return f"costs no more than {other} from {counted(reviews, 'review')} on"
