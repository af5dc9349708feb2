"""reports/comparison.md: the verdicts, the tables, and how to read them."""

from reviewtune.core.formatting import counted, markdown_table
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.findings import cost_lines, sections, verdict_lines
from reviewtune.evaluation.comparison.recommendation import recommendation_lines
from reviewtune.evaluation.comparison.tables import RESPONSE_HEAD, arm_rows, guide_rows, response_rows

HOW_TO_READ = """\
- *Precision*, *recall* and *F1* are averages over the labels, weighted by their number of reviews; *macro F1* gives
  each label the same weight.
- An *unusable* answer does not name a label of the list. It counts as an error everywhere.
- Square brackets hold 95 % confidence intervals: Wilson's for an accuracy, a paired bootstrap's for a difference.
- The verdict is *better* or *worse* only if the exact McNemar test has p < 0.05 after Holm's correction for the number
  of arms in the table, and the interval of the difference excludes 0. Otherwise it is *undecided*: this test set
  cannot tell the two apart, which does not mean that they are equal.
- A difference that *this test set would often miss* is smaller than what a test set of this size shows in 8 of 10
  cases, given how often the two arms disagree (Connor 1987).
- *Confident* means that the label's probability reaches a threshold, which was chosen on the validation reviews.
- *Label prior correction*: a base model finds some labels more likely whatever the review says. The correction divides
  each label's probability by a factor with which all labels are equally likely on average over the validation reviews
  (arXiv 2309.17249 and 2404.08461). With `label_scores: auto` an arm uses it only if it classifies more validation
  reviews correctly. *As answered* is the uncorrected answer.
- *Never answered*: test reviews with this label exist, but the arm gives all of them, and all others, another label.
- The *recommended* arm is the cheapest one that is not worse than the most accurate one on the validation reviews: the
  95 % interval of the difference (Tango's, for paired proportions) excludes a loss of more than the margin. `majority`
  and checkpoints are not recommended.
- Everything that is chosen is chosen on the training and validation reviews: examples, label prior correction,
  confidence threshold, checkpoint, the best prompt arm, the recommended arm. The test reviews only measure.
- *Cost* is the measured number of tokens times the dated price list. It includes training only where that is stated.
- *Response time* is the time within which 50 % (p50), 95 % (p95) and 99 % (p99) of the answers arrived, with
  `provider.concurrency` requests at a time. Answers that came in a batch have no response time. Speed depends on the
  machine.
"""


def to_markdown(comparison: Comparison) -> str:
    """The whole report."""
    runs = f"In the MLflow UI (`make ui`), this filter shows them:\n\n```\n{mlflow_filter(comparison)}\n```"
    parts = [
        "# Comparison",
        _summary(comparison),
        _bullets(verdict_lines(comparison, bold="**")),
        *_recommendation(comparison),
        "## Base model and fine-tuned model",
        _guide_table(comparison),
        "## All arms",
        _arm_table(comparison),
        _unusable(comparison),
        *_cost_and_time(comparison),
        *(f"## {heading}\n\n{_bullets(lines)}" for heading, lines in sections(comparison).items()),
        "## How to read this",
        HOW_TO_READ.strip(),
        "## The runs",
        runs,
    ]
    return "\n\n".join(parts) + "\n"


def mlflow_filter(comparison: Comparison) -> str:
    """The MLflow filter that finds the arms' runs."""
    ids = ", ".join(f"'{arm.mlflow_run_id}'" for arm in comparison.arms if arm.mlflow_run_id)
    return f"attributes.run_id IN ({ids})"


def _summary(comparison: Comparison) -> str:
    counts = ", ".join(
        map(counted, (comparison.n, len(comparison.labels), len(comparison.arms)), ("test review", "label", "arm"))
    )
    return f"{counts}; the reference is {comparison.reference}."


def _recommendation(comparison: Comparison) -> list[str]:
    lines = recommendation_lines(comparison, bold="**")
    return ["## Recommendation", _bullets(lines)] if lines else []


def _guide_table(comparison: Comparison) -> str:
    rows = guide_rows(comparison)
    if not rows:
        return "No fine-tuned arm takes part."
    return markdown_table(["Metric", f"Base ({comparison.reference})", "Fine-tuned", "Improvement"], rows)


def _arm_table(comparison: Comparison) -> str:
    rows = arm_rows(comparison)
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def _unusable(comparison: Comparison) -> str:
    counts = [f"{arm.arm} {arm.invalid}" for arm in comparison.arms if arm.invalid]
    return f"Unusable answers, counted as errors: {', '.join(counts) or 'none'}."


def _cost_and_time(comparison: Comparison) -> list[str]:
    """The section's heading and parts; empty if neither is known."""
    parts = []
    if costs := cost_lines(comparison):
        parts.append(_bullets(costs))
    if rows := response_rows(comparison):
        parts.append(markdown_table(RESPONSE_HEAD, rows))
    return ["## Cost and time", *parts] if parts else []


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
