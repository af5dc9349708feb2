"""All arms side by side: each against the reference, and the fine-tuned model against each, on the same reviews.

`load_arm` reads what evaluation.py wrote, `compare` judges, `to_json` gives the report from which `to_markdown` and
`render` (comparison_view.py) write for people.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reviewtune.core.atomic_files import write_json, write_text
from reviewtune.core.config import CascadeConfig
from reviewtune.errors import DataError
from reviewtune.evaluation import plots
from reviewtune.evaluation.comparison.break_even import economics
from reviewtune.evaluation.comparison.confidence_report import cascade_report, confidence_report, coverage_table
from reviewtune.evaluation.comparison.pairwise_tests import Duel, duels
from reviewtune.evaluation.comparison.report import render, to_markdown
from reviewtune.evaluation.metrics.significance import Interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Arm", "Comparison", "Duel", "arm_table", "compare", "label_table", "load_arm", "pictures", "render", "to_json",
    "to_markdown", "write",
]  # fmt: skip

HARD = "hard=1"
BOTH_WAYS = ("decided_by", "accuracy_as_answered", "accuracy_prior_corrected")
EXTRAS = ("consistency", "checkpoint", "injections")
MEASURED = ("cost_per_1k", "cost_per_1k_at_gpt_4o_mini", "prompt_tokens", "completion_tokens", "invalid")
TIMED = ("latency_p50", "latency_p95", "latency_p99", "reviews_per_second", "times", "mlflow_run_id")


@dataclass(frozen=True)
class Arm:
    """One arm's files. `metrics` is metrics.json, `run` run.json; the tables are predictions.csv and per_label.csv."""

    name: str
    kind: str
    model: str
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]
    predictions: "pd.DataFrame"
    per_label: "pd.DataFrame"

    @property
    def accuracy(self) -> Interval:
        return Interval(**self.metrics["accuracy"])


@dataclass(frozen=True)
class Comparison:
    """The arms, in the order given, with every duel. `against_reference` lacks the reference itself;
    `finetuned_against` is empty where no arm of kind "finetuned" takes part."""

    reference: str
    n: int
    test_sha256: str
    labels: tuple[str, ...]
    arms: tuple[Arm, ...]
    against_reference: Mapping[str, Duel]
    finetuned_against: Mapping[str, Duel]
    confidence: Mapping[str, Any]
    cascade: Mapping[str, Any] | None


def load_arm(folder: Path) -> Arm:
    """Read reports/arms/ARM/.

    Raises:
        DataError: a file is missing or damaged, or the files are not from one evaluation.
    """
    import pandas as pd

    try:
        metrics, run = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "run")
        )
        ids = {"review_id": str, "label": str, "predicted": str}
        predictions = pd.read_csv(folder / "predictions.csv", dtype=ids, keep_default_na=False)
        if sure := json.loads((folder / "confidence.run.json").read_text(encoding="utf-8"))["confidence"]:
            predictions["confidence"] = sure
        per_label = pd.read_csv(folder / "per_label.csv", dtype={"label": str}, keep_default_na=False)
        arm = Arm(metrics["arm"], metrics["kind"], metrics["model"], metrics, run, predictions, per_label)
        rows = (len(predictions), predictions["review_id"].nunique(), metrics["n"])
        right = round(arm.accuracy.value * metrics["n"])
        hits = int((predictions["label"] == predictions["predicted"]).sum())
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing: run `dvc repro` to evaluate arm {folder.name}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: damaged ({error!r}): run `dvc repro --force` on its stage") from error
    if len(set(rows)) != 1 or right != hits:
        raise DataError(f"{folder}: metrics.json and predictions.csv disagree: run `dvc repro --force` on its stage")
    return arm


def compare(arms: Sequence[Arm], *, reference: str, seed: int, resamples: int, cascade: CascadeConfig) -> Comparison:
    """Judge every arm against the arm named `reference`, and the fine-tuned arm against every other: two tables.

    Raises:
        DataError: the reference, or an arm of the cascade, is not among the arms; two arms did not answer the same
            test.
    """
    named = {arm.name: arm for arm in arms}
    if reference not in named:
        raise DataError(f"reference arm {reference!r} is not one of: {', '.join(named)}; set evaluation.reference")
    base = named[reference]
    for arm in arms:
        _same_test(base, arm)
    tuned = next((arm for arm in arms if arm.kind == "finetuned"), None)
    labels = tuple(base.per_label["label"])

    predictions = {arm.name: arm.predictions for arm in arms}
    costs = {arm.name: arm.metrics.get("cost_per_1k") for arm in arms}

    def against(pairs: dict[str, tuple[Arm, Arm]]) -> dict[str, Duel]:
        tables = {name: (this.predictions, other.predictions) for name, (this, other) in pairs.items()}
        return duels(tables, labels, seed=seed, resamples=resamples)

    return Comparison(
        reference=reference,
        n=len(base.predictions),
        test_sha256=base.metrics["test_sha256"],
        labels=labels,
        arms=tuple(arms),
        against_reference=against({arm.name: (arm, base) for arm in arms if arm is not base}),
        finetuned_against=against({arm.name: (tuned, arm) for arm in arms if arm is not tuned}) if tuned else {},
        confidence=confidence_report(predictions, wanted=cascade.wanted_accuracy, seed=seed),
        cascade=cascade_report(predictions, costs, cascade, seed=seed),
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The report: what reports/comparison.json holds and the views are made from."""
    return {
        "reference": comparison.reference,
        "n": comparison.n,
        "test_sha256": comparison.test_sha256,
        "labels": list(comparison.labels),
        "arms": [_entry(arm, comparison.against_reference.get(arm.name)) for arm in comparison.arms],
        "confidence": dict(comparison.confidence),
        "cascade": comparison.cascade,
        "finetuned_against": {name: duel.as_json("other") for name, duel in comparison.finetuned_against.items()},
        "economics": economics([arm.metrics for arm in comparison.arms]),
    }


def arm_table(comparison: Comparison) -> "pd.DataFrame":
    """One row an arm, for DVC's plots: its accuracy with low and high, F1, cost and speed."""
    import pandas as pd

    rows = [
        {
            "arm": arm.name,
            "kind": arm.kind,
            "accuracy": arm.accuracy.value,
            "low": arm.accuracy.low,
            "high": arm.accuracy.high,
            "f1": arm.metrics["f1"],
            "macro_f1": arm.metrics["macro"]["f1"],
            "cost_per_1k": arm.metrics.get("cost_per_1k"),
            "reviews_per_second": arm.run.get("reviews_per_second"),
        }
        for arm in comparison.arms
    ]
    return pd.DataFrame(rows)


def label_table(comparison: Comparison) -> "pd.DataFrame":
    """One row an arm and label, for DVC's plots: arm, label, support, predicted, precision, recall, f1."""
    import pandas as pd

    return pd.concat([arm.per_label.assign(arm=arm.name) for arm in comparison.arms], ignore_index=True)[
        ["arm", *comparison.arms[0].per_label.columns]
    ]


def pictures(comparison: Comparison) -> dict[str, bytes]:
    """File name -> PNG. The cost is that at gpt-4o-mini's prices when the arms' own provider charges nothing."""
    free = not any(arm.metrics.get("cost_per_1k") for arm in comparison.arms)
    price = "cost_per_1k_at_gpt_4o_mini" if free else "cost_per_1k"
    points = [
        plots.ArmPoint(arm.name, arm.kind, arm.accuracy, arm.metrics.get(price) if arm.kind != "linear" else None)
        for arm in comparison.arms
    ]
    where = "gpt-4o-mini's prices" if free else None
    coverage = coverage_table({arm.name: arm.predictions for arm in comparison.arms})
    return {
        "accuracy.png": plots.accuracy_bars(points),
        "calibration.png": plots.calibration(comparison.confidence, coverage),
        "accuracy_against_cost.png": plots.accuracy_against_cost(points, prices=where),
        "f1_per_label.png": plots.per_label_f1({arm.name: arm.per_label for arm in comparison.arms}),
    }


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """comparison.json, .md and .csv, per_label.csv and the pictures; returns what was written."""
    report = to_json(comparison)
    write_json(report, folder / "comparison.json")
    write_text(to_markdown(report), folder / "comparison.md")
    arm_table(comparison).to_csv(folder / "comparison.csv", index=False, lineterminator="\n")
    coverage = coverage_table({arm.name: arm.predictions for arm in comparison.arms})
    coverage.to_csv(folder / "coverage.csv", index=False, lineterminator="\n")
    label_table(comparison).to_csv(folder / "per_label.csv", index=False, lineterminator="\n")
    drawn = pictures(comparison)
    for name, picture in drawn.items():
        (folder / name).write_bytes(picture)
    names = ["comparison.json", "comparison.md", "comparison.csv", "coverage.csv", "per_label.csv", *drawn]
    return [folder / name for name in names]


def _entry(arm: Arm, duel: Duel | None) -> dict[str, Any]:
    metrics = arm.metrics
    entry = {"arm": arm.name, "kind": arm.kind, "model": arm.model, "accuracy": metrics["accuracy"]}
    entry |= {name: metrics[name] for name in ("precision", "recall", "f1")}
    entry["macro_f1"] = metrics["macro"]["f1"]
    slices = metrics.get("slices", {})
    if HARD in slices:
        entry["hard_accuracy"] = slices[HARD]["accuracy"]["value"]
    entry["slices"] = slices
    entry |= {name: metrics[name] for name in (*BOTH_WAYS, "intervals", *EXTRAS) if name in metrics}
    entry |= {name: metrics.get(name) for name in MEASURED}
    entry |= {name: arm.run.get(name) for name in TIMED}
    return {**entry, "against_reference": duel.as_json("reference") if duel else None}


def _same_test(base: Arm, arm: Arm) -> None:
    pair = f"arms {base.name} and {arm.name}"
    if base.metrics["test_sha256"] != arm.metrics["test_sha256"]:
        raise DataError(f"{pair} were scored on different test files: run `dvc repro` to score both on the same one")
    truths = [dict(zip(one.predictions["review_id"], one.predictions["label"], strict=True)) for one in (base, arm)]
    if truths[0] != truths[1]:
        raise DataError(f"{pair} answered different reviews: run `dvc repro` to score both on the same test file")
    if base.per_label["label"].tolist() != arm.per_label["label"].tolist():
        raise DataError(f"{pair} chose from different label lists: run `dvc repro` to score both with the same one")
