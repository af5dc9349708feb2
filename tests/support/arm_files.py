"""The files of an arm's evaluation, as stage `evaluate` writes them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.evaluation.comparison.compare import Arm, load_arm
from reviewtune.evaluation.metrics.classification import INVALID, per_label_table, score
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.evaluation.metrics_file import ArmKind, ArmMetrics, SliceMetrics, ValidationMetrics, write_metrics
from reviewtune.evaluation.results import VALIDATION
from reviewtune.evaluation.run_file import ArmRun, write_run

LABELS = ["delivery", "quality"]


def write_arm(
    root: Path,
    name: str,
    correct: list[bool],
    kind: ArmKind = "prompt",
    *,
    validation: list[bool] | None = None,
    **changes: Any,
) -> Arm:
    """Write and load an arm.

    Args:
        root: reports/arms/.
        name: the arm's name.
        correct: whether each review is classified correctly; of the others, every tenth gets no usable answer.
        kind: the arm's kind.
        validation: the same of the validation reviews; None: as `correct`; empty: the arm was not asked about them.
        changes: fields of metrics.json.
    """
    table = pd.DataFrame([_row(number, hit) for number, hit in enumerate(correct)])
    known = pd.DataFrame(
        [_row(number, hit) for number, hit in enumerate(correct if validation is None else validation)]
    )
    fields: dict[str, Any] = {"slices": {"hard=1": _hard(table)}, "cost_per_1k": None if kind == "linear" else 0.02}
    confidences = {"confidence": _confidences(len(table)), "validation": _confidences(len(known))}
    return write_tables(
        root, name, table, LABELS, kind=kind, validation=known, confidences=confidences, **{**fields, **changes}
    )


def write_tables(
    root: Path,
    name: str,
    table: pd.DataFrame,
    labels: list[str],
    *,
    kind: ArmKind,
    validation: pd.DataFrame,
    confidences: dict[str, list[float]],
    **fields: Any,
) -> Arm:
    """Write and load an arm of any labels.

    Args:
        root: reports/arms/.
        name: the arm's name.
        table: predictions.csv.
        labels: the label list.
        kind: the arm's kind.
        validation: validation_predictions.csv.
        confidences: confidence.run.json.
        fields: fields of metrics.json.
    """
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    scores = score(table["label"].tolist(), table["predicted"].tolist(), labels=labels)
    usual: dict[str, Any] = {"validation": _validation(validation), "test_sha256": "abc"}
    metrics = ArmMetrics.of_scores(scores, arm=name, kind=kind, model=f"model|{name}", **{**usual, **fields})
    (folder / "confidence.run.json").write_text(json.dumps(confidences))
    write_metrics(metrics, folder)
    write_run(_run(name, kind), folder)
    table.to_csv(folder / "predictions.csv", index=False)
    validation.reindex(columns=["review_id", "label", "predicted"]).to_csv(folder / VALIDATION, index=False)
    per_label_table(scores).to_csv(folder / "per_label.csv", index=False)
    return load_arm(folder)


def _confidences(n: int) -> list[float]:
    return [round(max(0.99 - 0.004 * number, 0.1), 3) for number in range(n)]


def _validation(known: pd.DataFrame) -> ValidationMetrics | None:
    if known.empty:
        return None
    accuracy = proportion(int((known["label"] == known["predicted"]).sum()), len(known)).rounded()
    return ValidationMetrics(n=len(known), accuracy=accuracy, accuracy_as_answered=None, accuracy_prior_corrected=None)


def _run(name: str, kind: ArmKind) -> ArmRun:
    run_id = f"run_of_{name}"
    if kind == "linear":
        return ArmRun(mlflow_run_id=run_id)
    return ArmRun(mlflow_run_id=run_id, latency_p50=0.1, latency_p95=0.25, reviews_per_second=12.0)


def _hard(table: pd.DataFrame) -> SliceMetrics:
    part = table[table["hard"] == 1]
    hits = int((part["label"] == part["predicted"]).sum())
    return SliceMetrics(n=len(part), accuracy=proportion(hits, len(part)).rounded())


def _row(number: int, correct: bool) -> dict[str, Any]:
    label, wrong = LABELS[number % 2], LABELS[1 - number % 2]
    predicted = label if correct else INVALID if number % 10 == 0 else wrong
    return {
        "review_id": f"{number:04}",
        "label": label,
        "predicted": predicted,
        "label_second": label,
        "hard": int(number % 4 == 0),
    }
