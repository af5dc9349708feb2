"""The parity report for people: rows of its tables and its sentences, for the terminal and for Markdown."""

from collections.abc import Callable

from reviewtune.core.formatting import (
    NONE,
    counted,
    markdown_table,
    money,
    p_value,
    percent,
    points,
    rate,
    seconds,
    with_counts,
    with_interval,
)
from reviewtune.core.formatting import listed as listed_names
from reviewtune.deployment.rebase.parity_file import KeptAnswers, RebaseReport, Side
from reviewtune.evaluation.comparison.comparison_file import LabelTest, PairwiseTest

SIDES = ("", "old", "new")
LABELS = ("label", "reviews", "F1 old", "F1 new", "difference", "right only new", "right only old", "p", "verdict")
GATES = ("gate", "asked", "seen", "outcome")
SEEN = {
    "asked": "asked",
    "evaluation": "not asked: its answers are those of the last `dvc repro`",
    "promotion": "not asked: its labels are those of its promotion",
}


HOW_TO_READ = """## How to read this

- Square brackets hold 95 % confidence intervals: Wilson's for a share, a paired bootstrap's for a difference.
- The gates are those of `reviewtune promote` (docs/promotion.md) with the old model as the champion.
- *By label* a review counts as right when the label was given where it belongs, or not given where it does not; the
  p-values are McNemar's, with Holm's correction over the labels.
- *Cost* is the number of tokens times the dated price list. *Confidence* is not calibrated here; the gate is about the
  calibrated one. Answers that came in a batch have no response time.
- Everything that is chosen is chosen on the training and validation reviews. The test reviews only measure."""

_WEIGHTED = {
    "calibrated": ", weighted by how right they are at their confidence on the validation reviews",
    "uncalibrated": ", weighted by their confidence, as there are too few validation reviews to compare it with",
    "none": ", all with the same weight, as it gives no confidence",
}

_NUMBERS: dict[str, Callable[[Side], str]] = {
    "model": lambda side: side.model,
    "provider": lambda side: f"{side.provider} ({side.base_model})" if side.provider else NONE,
    "answers": lambda side: SEEN[side.seen],
    "accuracy": lambda side: with_interval(side.accuracy),
    "macro F1": lambda side: percent(side.macro_f1),
    "unusable answers": lambda side: str(side.unusable),
    "cost per 1,000 reviews": lambda side: money(side.cost_per_1k),
    "training": lambda side: money(side.training_usd),
    "response time p50": lambda side: seconds(side.latency_p50),
    "response time p95": lambda side: seconds(side.latency_p95),
    "reviews per second": lambda side: rate(side.reviews_per_second),
    "mean confidence": lambda side: NONE if side.mean_confidence is None else percent(side.mean_confidence),
    "calibration error": lambda side: NONE if side.calibration_error is None else percent(side.calibration_error),
}


def side_rows(report: RebaseReport) -> list[tuple[str, str, str]]:
    """Both models in numbers: what, old, new."""
    old, new = report.old, report.new
    return [(name, NONE if old is None else shown(old), shown(new)) for name, shown in _NUMBERS.items()]


def label_rows(report: RebaseReport) -> list[tuple[str, ...]]:
    """Both models by label, the label with the largest loss first; empty without the old one's answers."""
    if report.test is None or report.old is None:
        return []
    tests = sorted(report.test.per_label.items(), key=lambda item: item[1].f1_difference.value)
    return [_label_row(name, test, report, report.old) for name, test in tests]


def gate_rows(report: RebaseReport) -> list[tuple[str, str, str, str]]:
    return [(gate.name, gate.asked, gate.seen, gate.outcome) for gate in report.gates]


def sentences(report: RebaseReport) -> list[str]:
    """The differences, what was kept of the old model, and what limits the comparison."""
    lines = [] if report.test is None else [_difference(report.test)]
    if report.agreement is not None:
        lines.append(f"both give the same label to {with_interval(report.agreement)} of the test reviews")
    if report.kept is not None:
        lines += kept_sentences(report.kept, labelled=report.labelled)
    return [*lines, *(f"note: {note}" for note in report.notes)]


def kept_sentences(kept: KeptAnswers, *, labelled: int) -> list[str]:
    """What was kept of the old model."""
    usable = f"{kept.answered:,} of {counted(kept.asked, 'review')}"
    lines = [f"kept of {kept.teacher}: labels of {usable}, in {kept.file}; they cost {money(kept.spent_usd)}"]
    if kept.left_out:
        lines.append(f"not asked: {with_counts(kept.left_out)}")
    if kept.ended:
        lines.append(f"{counted(kept.not_asked, 'review')} without an answer: {kept.ended}")
    if kept.validation_accuracy is not None:
        lines.append(f"it labels {with_interval(kept.validation_accuracy)} of the validation reviews right")
    dropped = f"{kept.too_unsure:,} more likely wrong than right and {kept.drawn_out:,} by chance were left out"
    lines.append(
        f"trained on {counted(labelled, 'labelled review')} and {counted(kept.trained_on, 'answer')}"
        f"{_WEIGHTED[kept.weighting]}{f': {dropped}' if kept.weighting != 'none' else ''}"
    )
    return lines


def conclusion(report: RebaseReport) -> str:
    """The verdict and the next command."""
    if report.verdict == "passed":
        step = f"`reviewtune promote {report.run_id[:12]}` makes it the champion"
        return f"passed: the new model may replace the old one; {step}"
    return f"failed: {listed_names([gate.name for gate in report.failed], shown=10)}; nothing was promoted"


def to_markdown(report: RebaseReport) -> str:
    """The whole report."""
    old = report.old.title if report.old else "an old model that cannot be asked"
    parts = [
        "# Parity report",
        f"{report.data}: {old} against {report.new.model} on {counted(report.n, 'test review')}. **{report.verdict}**",
        "\n".join(f"- {line}" for line in [*sentences(report), conclusion(report)]),
        "## Both models",
        markdown_table(SIDES, side_rows(report)),
        "## Gates",
        markdown_table(GATES, gate_rows(report), right_aligned=False),
    ]
    if rows := label_rows(report):
        parts += ["## By label", markdown_table(LABELS, rows)]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def _label_row(name: str, test: LabelTest, report: RebaseReport, old: Side) -> tuple[str, ...]:
    difference = test.f1_difference
    return (
        name,
        str(report.support.get(name, 0)),
        percent(old.f1.get(name, 0.0)),
        percent(report.new.f1.get(name, 0.0)),
        f"{points(difference.value)} [{points(difference.low)}, {points(difference.high)}]",
        str(test.only_this_right),
        str(test.only_other_right),
        p_value(test.holm_p),
        test.verdict,
    )


def _difference(test: PairwiseTest) -> str:
    low, high = points(test.difference.low), points(test.difference.high)
    return (
        f"accuracy {points(test.difference.value)} points [{low}, {high}] against the old model: "
        f"{test.only_this_right} right only by the new one, {test.only_other_right} only by the old one, "
        f"McNemar's test {p_value(test.mcnemar_p)}: {test.verdict}"
    )
