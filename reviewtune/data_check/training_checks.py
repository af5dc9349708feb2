"""Evidence for the three troubles that every fine-tuning guide names.

Too little data; a validation loss that does not fall; a fine-tuned model that is worse than its base. The first is
measured on the data, the others read what the last `dvc repro` left in reports/.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.data_check.checks import Check, Level
from reviewtune.data_check.learning_curve import DOUBLE, Curve
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.metrics.significance import Interval, accuracy_difference, mcnemar, verdict
from reviewtune.finetuning.loss_advice import advise

MORE = "Too little data?"
LOSS = "Does the validation loss fall?"
WORSE = "Is the fine-tuned model worse than its base?"
NO_RUN = "run `dvc repro` first: this is read from the reports that it leaves"
AUTO_EPOCHS = 3  # what providers choose for a few hundred examples
LEARNED_NOTHING = (
    "see why before you label more: labels that follow no rule, too few reviews of each, or, in a fine-tune, a loss "
    "that does not fall (more epochs, a larger base model)"
)
NOT_LEARNING = ("diverged", "stagnant")  # kinds of advice
BARELY = 0.98  # a loss whose best is above this share of its first has not fallen


def too_little_data(curves: list[Curve], reason: str = "") -> Check:
    """By learning curves, the last of which decides; `reason` says why there is none."""
    if not curves:
        return Check("too_little_data", MORE, "unknown", f"no learning curve: {reason}", "label more reviews")
    curve = curves[-1]
    facts = {"curves": [one.as_json() for one in curves]}
    last = curve.measured[-1]
    says = f"{curve.model}: {last.accuracy.value:.1%} with {last.n} training reviews"
    if curve.verdict == "learned nothing":
        return Check("too_little_data", MORE, "problem", says + _idle(curve), LEARNED_NOTHING, facts)
    if curve.gain is None:
        return Check("too_little_data", MORE, "unknown", f"{says}; no power law fits the curve", facts=facts)
    gain, ahead = curve.gain, curve.forecast[DOUBLE]
    says += (
        f"; {ahead.n} would give {ahead.accuracy.value:.1%}, {gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%})"
    )
    says += f", if the curve keeps its course: {curve.verdict}"
    if curve.verdict == "more reviews would hardly help":
        return Check(
            "too_little_data", MORE, "fine", says, "improve labels and prompt rather than adding reviews", facts
        )
    if curve.verdict == "undecided":
        return Check("too_little_data", MORE, "unknown", says, "label some more and look again", facts)
    return Check("too_little_data", MORE, "notice", says, "label more reviews, of the weakest labels first", facts)


def _idle(curve: Curve) -> str:
    lead = curve.lead
    lead_says = f"{lead.value:+.1%}, {lead.low:+.1%} to {lead.high:+.1%}"
    return f"; {curve.commonest:.1%} have the commonest label, and it is not above that ({lead_says}): nothing learned"


def validation_loss(path: Path, n_epochs: int = AUTO_EPOCHS) -> Check:
    """From reports/training_curve.csv, with the advice that a finished job gets."""
    name, table = "validation_loss", _loss_table(path)
    if table is None:
        return Check(name, LOSS, "unknown", f"no loss curve at {path}", NO_RUN)
    curve = _validation(table)
    if len(curve) < 2:
        return Check(name, LOSS, "unknown", "fewer than two validation losses were measured", "give a validation file")
    losses = curve["loss"]
    at = int(curve["step"].iloc[int(losses.to_numpy().argmin())])
    facts = {"steps": curve["step"].tolist(), "loss": [round(float(loss), 6) for loss in losses], "best_step": at}
    says = f"{losses.iloc[0]:.3f} at first, {losses.min():.3f} at step {at}, {losses.iloc[-1]:.3f} at the end"
    if findings := advise(table, n_epochs=n_epochs):
        worst = findings[0]
        level: Level = "problem" if worst.kind in NOT_LEARNING else "notice"
        return Check(name, LOSS, level, f"{says}; {worst.seen}", "; ".join(one.do for one in findings), facts)
    if losses.min() > BARELY * losses.iloc[0]:
        do = "check that both files use one prompt and one label list, then raise the learning rate"
        return Check(name, LOSS, "problem", f"{says}: it does not fall", do, facts)
    return Check(name, LOSS, "fine", says, facts=facts)


def worse_than_base(arms: Path, *, seed: int) -> Check:
    """From reports/arms/*: the fine-tuned arm against the best arm of the model that is only prompted."""
    name = "worse_than_base"
    try:
        tuned, prompted = load_arm(arms / "finetuned"), _prompted(arms)
    except DataError as error:
        return Check(name, WORSE, "unknown", str(error), NO_RUN)
    if not prompted:
        return Check(name, WORSE, "unknown", f"no prompt arm in {arms}", NO_RUN)
    base = max(prompted, key=lambda arm: arm.accuracy.value)
    try:
        difference, p = _difference(tuned, base, seed)
    except DataError as error:
        return Check(name, WORSE, "unknown", str(error), NO_RUN)
    judged = verdict(difference, p)
    says = f"{tuned.accuracy.value:.1%} fine-tuned, {base.accuracy.value:.1%} {base.name}: {difference.value:+.1%} "
    says += f"({difference.low:+.1%} to {difference.high:+.1%}), {judged}"
    by_label = _by_label(tuned, base)
    facts = {"base": base.name, "by_label": by_label, "confusions": _confusions(tuned), "verdict": judged}
    lost = [row["label"] for row in by_label if row["difference"] < 0]
    if judged == "worse":
        do = "check the confusion pairs for labels that overlap, the rare labels for too few reviews, and the prompt"
        return Check(name, WORSE, "problem", says, f"{do}; labels that lost: {', '.join(lost) or 'none'}", facts)
    if lost:
        return Check(name, WORSE, "notice", says, f"labels that lost all the same: {', '.join(lost)}", facts)
    return Check(name, WORSE, "fine" if judged == "better" else "notice", says, facts=facts)


def _loss_table(path: Path) -> pd.DataFrame | None:
    """The file as numbers; None where there is none, or another one."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):
        return None
    if not {"step", "train_loss"} <= set(table.columns):
        return None
    numbers = table.apply(pd.to_numeric, errors="coerce").dropna(subset=["step"]).reset_index(drop=True)
    return numbers if len(numbers) else None


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    """Columns step, loss: of all validation reviews where measured, else of single batches."""
    columns = table.reindex(columns=["step", "full_valid_loss", "valid_loss"])
    which = "full_valid_loss" if columns["full_valid_loss"].notna().any() else "valid_loss"
    known = columns[["step", which]].dropna()
    return pd.DataFrame({"step": known["step"].astype(int), "loss": known[which]})


def _prompted(arms: Path) -> list[Arm]:
    found = [load_arm(folder) for folder in sorted(arms.iterdir()) if (folder / "metrics.json").exists()]
    return [arm for arm in found if arm.kind == "prompt"]


def _difference(tuned: Arm, base: Arm, seed: int) -> tuple[Interval, float]:
    """Of the accuracies on the same reviews, with the exact test's p.

    Raises:
        DataError: the arms answered different reviews.
    """
    one, other = (arm.predictions[["review_id", "label", "predicted"]] for arm in (tuned, base))
    both = one.merge(other, on=["review_id", "label"], suffixes=("", "_base"))
    if len(both) != len(one) or len(both) != len(other):
        raise DataError(f"finetuned and {base.name} answered different reviews")
    right = (both["label"] == both["predicted"]).tolist(), (both["label"] == both["predicted_base"]).tolist()
    return accuracy_difference(*right, seed=seed), mcnemar(*right).p


def _by_label(tuned: Arm, base: Arm) -> list[dict[str, Any]]:
    """F1 of both arms for each label, the greatest loss first."""
    both = tuned.per_label.merge(base.per_label, on="label", suffixes=("", "_base"))
    rows: list[dict[str, Any]] = [
        {
            "label": row["label"],
            "reviews": int(row["support"]),
            "finetuned": round(row["f1"], 4),
            "base": round(row["f1_base"], 4),
            "difference": round(row["f1"] - row["f1_base"], 4),
        }
        for row in both.to_dict("records")
    ]
    return sorted(rows, key=lambda row: (row["difference"], row["label"]))


def _confusions(tuned: Arm) -> list[dict[str, Any]]:
    wrong = tuned.predictions[tuned.predictions["label"] != tuned.predictions["predicted"]]
    pairs = Counter(zip(wrong["label"], wrong["predicted"], strict=True)).most_common(10)
    return [{"label": label, "answered": answered, "reviews": n} for (label, answered), n in pairs]
