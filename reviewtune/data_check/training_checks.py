"""Checks for the three common problems of fine-tuning.

Too little data; a validation loss that does not fall; a fine-tuned model that is worse than its base. The first is
measured on the data; the others read the reports of the last `dvc repro`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reviewtune.core.formatting import counted, points
from reviewtune.data_check.checks import SHOWN_CONFUSIONS, CheckResult, Level
from reviewtune.data_check.facts import BaseModelFacts, Confusion, Facts, LabelScores, LossFacts
from reviewtune.data_check.learning_curve import DOUBLE, Curve, CurveFacts, Verdict
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.break_even import best_prompt
from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.metrics.significance import Interval, accuracy_difference, mcnemar, verdict
from reviewtune.finetuning.loss_advice import advise

MORE = "Too little data?"
LOSS = "Does the validation loss fall?"
WORSE_NAME = "worse_than_base"
WORSE = "Is the fine-tuned model worse than its base?"
NO_RUN = "run `dvc repro` first: this check reads its reports"
AUTO_EPOCHS = 3  # what providers choose for a few hundred examples
LEARNED_NOTHING = (
    "find the cause before you label more: inconsistent labels, too few reviews of each, or, in a fine-tune, a loss "
    "that does not fall (more epochs, a larger base model)"
)
NOT_LEARNING = ("diverged", "stagnant")  # kinds of advice
BARELY = 0.98  # a loss has not fallen if its minimum is above this share of the first value
NEXT_STEPS: dict[Verdict, tuple[Level, str]] = {
    "more reviews would help": ("notice", "label more reviews, of the weakest labels first"),
    "more reviews would hardly help": ("fine", "improve labels and prompt instead of adding reviews"),
    "undecided": ("unknown", "label some more reviews and check again"),
}


def too_little_data(curves: Sequence[Curve], reason: str = "") -> CheckResult[Facts]:
    """Would more reviews help?

    Args:
        curves: learning curves; the last one decides.
        reason: why there is none.
    """
    name = "too_little_data"
    if not curves:
        return CheckResult(name, MORE, "unknown", f"no learning curve: {reason}", "label more reviews", Facts())
    curve, facts = curves[-1], CurveFacts(tuple(curves))
    last = curve.measured[-1]
    says = f"{curve.model}: {last.accuracy.value:.1%} with {counted(last.n, 'training review')}"
    if curve.verdict == "learned nothing":
        return CheckResult(name, MORE, "problem", says + _learned_nothing(curve), LEARNED_NOTHING, facts)
    if curve.gain is None:
        return CheckResult(name, MORE, "unknown", f"{says}; no power law fits the curve", "", facts)
    level, do = NEXT_STEPS[curve.verdict]
    return CheckResult(name, MORE, level, says + _forecast(curve, curve.gain), do, facts)


def _learned_nothing(curve: Curve) -> str:
    lead = curve.lead
    return (
        f"; always answering the most frequent label gives {curve.baseline:.1%}, and the model is not above that "
        f"({points(lead.value)} points, {points(lead.low)} to {points(lead.high)}): it learned nothing"
    )


def _forecast(curve: Curve, gain: Interval) -> str:
    ahead = curve.forecast[DOUBLE]
    return (
        f"; {ahead.n} would give {ahead.accuracy.value:.1%}, {points(gain.value)} points ({points(gain.low)} to "
        f"{points(gain.high)}), if the curve keeps its shape: {curve.verdict}"
    )


def validation_loss(path: Path, n_epochs: int = AUTO_EPOCHS) -> CheckResult[Facts]:
    """Does the validation loss fall?

    Args:
        path: reports/training_curve.csv.
        n_epochs: epochs of its job.
    """
    name, table = "validation_loss", _loss_table(path)
    if table is None:
        return CheckResult(name, LOSS, "unknown", f"no loss curve at {path}", NO_RUN, Facts())
    curve = _validation(table)
    if len(curve) < 2:
        says = "fewer than two validation losses were measured"
        return CheckResult(name, LOSS, "unknown", says, "add a validation file", Facts())
    losses = curve["loss"]
    best = int(curve["step"].iloc[int(losses.to_numpy().argmin())])
    facts = LossFacts(tuple(curve["step"].tolist()), tuple(round(float(loss), 6) for loss in losses), best)
    says = f"{losses.iloc[0]:.3f} at first, {losses.min():.3f} at step {best}, {losses.iloc[-1]:.3f} at the end"
    if findings := advise(table, n_epochs=n_epochs):
        level: Level = "problem" if findings[0].kind in NOT_LEARNING else "notice"
        do = "; ".join(finding.do for finding in findings)
        return CheckResult(name, LOSS, level, f"{says}; {findings[0].seen}", do, facts)
    if losses.min() > BARELY * losses.iloc[0]:
        do = "check that both files use the same prompt and labels, then raise the learning rate"
        return CheckResult(name, LOSS, "problem", f"{says}: it does not fall", do, facts)
    return CheckResult(name, LOSS, "fine", says, "", facts)


def worse_than_base(arms: Path, *, seed: int) -> CheckResult[Facts]:
    """Is the fine-tuned arm worse than the best arm that only prompts the model?

    Args:
        arms: the folder reports/arms.
        seed: seed of the interval's bootstrap.
    """
    try:
        finetuned, base = load_arm(arms / "finetuned"), _best_prompted(arms)
        difference, p = _difference(finetuned, base, seed)
    except DataError as error:
        return CheckResult(WORSE_NAME, WORSE, "unknown", str(error), NO_RUN, Facts())
    facts = BaseModelFacts(base.name, _by_label(finetuned, base), _confusions(finetuned), verdict(difference, p))
    says = (
        f"{finetuned.accuracy.value:.1%} fine-tuned, {base.accuracy.value:.1%} {base.name}: "
        f"{points(difference.value)} points ({points(difference.low)} to {points(difference.high)}), {facts.verdict}"
    )
    level, do = _comparison_findings(facts)
    return CheckResult(WORSE_NAME, WORSE, level, says, do, facts)


def _comparison_findings(facts: BaseModelFacts) -> tuple[Level, str]:
    """Level and next step."""
    lost = ", ".join(scores.label for scores in facts.by_label if scores.difference < 0)
    if facts.verdict == "worse":
        do = "check the confusion pairs for labels that overlap, the rare labels for too few reviews, and the prompt"
        return "problem", f"{do}; labels with a lower F1: {lost or 'none'}"
    if lost:
        return "notice", f"labels with a lower F1 nevertheless: {lost}"
    return ("fine" if facts.verdict == "better" else "notice"), ""


def _loss_table(path: Path) -> pd.DataFrame | None:
    """The file as numbers; None if it does not exist or is another file."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):
        return None
    if not {"step", "train_loss"} <= set(table.columns):
        return None
    numbers = table.apply(pd.to_numeric, errors="coerce").dropna(subset=["step"]).reset_index(drop=True)
    return numbers if len(numbers) else None


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    """Columns step, loss: over all validation reviews if measured, otherwise over single batches."""
    columns = table.reindex(columns=["step", "full_valid_loss", "valid_loss"])
    which = "full_valid_loss" if columns["full_valid_loss"].notna().any() else "valid_loss"
    known = columns[["step", which]].dropna()
    return pd.DataFrame({"step": known["step"].astype(int), "loss": known[which]})


def _best_prompted(arms: Path) -> Arm:
    """The best arm that only prompts the model, chosen on the validation reviews if they were asked about.

    Raises:
        DataError: there is no such arm, or a result file cannot be read.
    """
    loaded = [load_arm(folder) for folder in sorted(arms.iterdir()) if (folder / "metrics.json").exists()]
    best = best_prompt([arm.metrics for arm in loaded], reference="zero_shot")
    if best is None:
        raise DataError(f"no prompt arm in {arms}")
    return next(arm for arm in loaded if arm.name == best.arm)


def _difference(finetuned: Arm, base: Arm, seed: int) -> tuple[Interval, float]:
    """Difference of the accuracies on the same reviews, with the exact test's p-value.

    Raises:
        DataError: the arms answered different reviews.
    """
    left, right = (arm.predictions[["review_id", "label", "predicted"]] for arm in (finetuned, base))
    both = left.merge(right, on=["review_id", "label"], suffixes=("", "_base"))
    if len(both) != len(left) or len(both) != len(right):
        raise DataError(f"finetuned and {base.name} answered different reviews")
    correct = (both["label"] == both["predicted"]).tolist(), (both["label"] == both["predicted_base"]).tolist()
    return accuracy_difference(*correct, seed=seed), mcnemar(*correct).p


def _by_label(finetuned: Arm, base: Arm) -> tuple[LabelScores, ...]:
    """F1 of both arms per label, the greatest loss first."""
    both = finetuned.per_label.merge(base.per_label, on="label", suffixes=("", "_base"))
    scores = [
        LabelScores(
            label=row["label"],
            reviews=int(row["support"]),
            finetuned=round(row["f1"], 4),
            base=round(row["f1_base"], 4),
            difference=round(row["f1"] - row["f1_base"], 4),
        )
        for row in both.to_dict("records")
    ]
    return tuple(sorted(scores, key=lambda each: (each.difference, each.label)))


def _confusions(arm: Arm) -> tuple[Confusion, ...]:
    wrong = arm.predictions[arm.predictions["label"] != arm.predictions["predicted"]]
    pairs = Counter(zip(wrong["label"], wrong["predicted"], strict=True)).most_common(SHOWN_CONFUSIONS)
    return tuple(Confusion(label, answered, reviews) for (label, answered), reviews in pairs)
