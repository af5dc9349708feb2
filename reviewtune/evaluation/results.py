"""The result of one evaluation, as files in its arm's folder and in its MLflow run."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reviewtune.core.atomic_files import write_bytes, write_json, write_text
from reviewtune.evaluation import plots, run_file
from reviewtune.evaluation.metrics.classification import INVALID, Scores, per_label_table
from reviewtune.evaluation.metrics_file import (
    METRICS_FILE,
    SUMMARY_FILE,
    ArmMetrics,
    CheckpointMetrics,
    Consistency,
    InjectionMetrics,
    write_metrics,
    write_summary,
)
from reviewtune.evaluation.run_file import ArmRun
from reviewtune.evaluation.subject import ModelSubject, Subject
from reviewtune.tracking.runs import Run

CONFUSION = "confusion_matrix.png"
VALIDATION = "validation_predictions.csv"
FILES = (METRICS_FILE, SUMMARY_FILE, "predictions.csv", VALIDATION, "per_label.csv", CONFUSION)  # that `write` writes


@dataclass(frozen=True)
class Evaluation:
    """What a subject achieved.

    Args:
        subject: what was evaluated.
        predictions: one row per review, with the columns of predictions.csv and, if known, `confidence`.
        scores: the scores of the predictions.
        metrics: the content of metrics.json.
        run: the content of run.json, without the MLflow run's id.
        validation: one row per validation review, with the columns of validation_predictions.csv and, if known,
            `confidence`; None: the subject did not classify the validation split.
    """

    subject: Subject
    predictions: pd.DataFrame
    scores: Scores
    metrics: ArmMetrics
    run: ArmRun
    validation: pd.DataFrame | None = None

    def with_extras(
        self,
        *,
        consistency: dict[str, Consistency] | None = None,
        injections: InjectionMetrics | None = None,
        checkpoint: CheckpointMetrics | None = None,
        left_out_seen: int | None = None,
    ) -> "Evaluation":
        """The same evaluation with what was measured in addition to the test split."""
        extras = {
            "consistency": consistency,
            "injections": injections,
            "checkpoint": checkpoint,
            "left_out_seen": left_out_seen,
        }
        known = {name: extra for name, extra in extras.items() if extra is not None}
        return replace(self, metrics=self.metrics.model_copy(update=known))


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write the tables and confusion_matrix.png; run.json follows when the MLflow run's id is known."""
    write_tables(evaluation, folder)
    write_bytes(plots.confusion_matrix(evaluation.scores, evaluation.subject.title), folder / CONFUSION)


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, summary.json, predictions.csv, validation_predictions.csv and per_label.csv.

    Confidences are not in them, as their last digits differ between runs.
    """
    write_metrics(evaluation.metrics, folder)
    write_summary(evaluation.metrics, folder)
    empty = pd.DataFrame(columns=["review_id", "label", "predicted"])
    validation = empty if evaluation.validation is None else evaluation.validation
    for table, name in ((evaluation.predictions, "predictions.csv"), (validation, VALIDATION)):
        labels = table.drop(columns="confidence", errors="ignore")
        write_text(labels.to_csv(index=False, lineterminator="\n"), folder / name)
    write_text(per_label_table(evaluation.scores).to_csv(index=False, lineterminator="\n"), folder / "per_label.csv")


def write_run(evaluation: Evaluation, folder: Path, run_id: str) -> None:
    """Write run.json and confidence.run.json."""
    run_file.write_run(evaluation.run.model_copy(update={"mlflow_run_id": run_id}), folder)
    confidences = {
        "confidence": _confidences(evaluation.predictions),
        "validation": _confidences(evaluation.validation),
    }
    write_json(confidences, folder / "confidence.run.json")


def _confidences(table: pd.DataFrame | None) -> list[float]:
    return [] if table is None or "confidence" not in table else table["confidence"].tolist()


def log(run: Run, evaluation: Evaluation, folder: Path) -> None:
    """Log metrics, tags, the predictions as a table, and every file of the arm's folder."""
    with run.together():
        _log_numbers(run, evaluation)
    for path in sorted(folder.iterdir()):
        if not path.name.endswith("run.json"):
            run.artifact(path)


def _log_numbers(run: Run, evaluation: Evaluation) -> None:
    subject = evaluation.subject
    run.tags({"arm": subject.arm, "arm_kind": subject.kind, "model": subject.model, **_prompt_tags(subject)})
    run.metrics(_numbers(evaluation.metrics) | evaluation.run.numbers)
    run.metrics({f"f1.{label}": scores.f1 for label, scores in evaluation.scores.per_label.items()})
    run.table(evaluation.predictions, "predictions.json")


def _numbers(metrics: ArmMetrics) -> dict[str, float]:
    """The MLflow run's metrics. Accuracy comes first: MLflow's compare page plots the metric that was logged first."""
    numbers = {
        "accuracy": metrics.accuracy.value,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
        "invalid": metrics.invalid,
        "n": metrics.n,
        "macro_f1": metrics.macro.f1,
        "accuracy_low": metrics.accuracy.low,
        "accuracy_high": metrics.accuracy.high,
        "hard_accuracy": metrics.hard_accuracy,
        **_validation_numbers(metrics),
        "prompt_tokens": metrics.prompt_tokens,
        "completion_tokens": metrics.completion_tokens,
        "trained_tokens": metrics.trained_tokens,
        "cost_per_1k": metrics.cost_per_1k,
        "cost_per_1k_at_gpt_4o_mini": metrics.cost_per_1k_at_gpt_4o_mini,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _validation_numbers(metrics: ArmMetrics) -> dict[str, float]:
    return {} if metrics.validation is None else metrics.validation.accuracy.named("validation_accuracy")


def unusable(evaluation: Evaluation) -> pd.DataFrame:
    """The rows whose answer names no label of the list."""
    return evaluation.predictions[evaluation.predictions["predicted"] == INVALID]


def samples(rows: pd.DataFrame, *, shown: int, characters: int | None = None) -> list[str]:
    """One line for each of the first unusable rows: the answer, cut to `characters`, or why there is none."""
    return [
        f"  {row.review_id}: {repr(str(row.answer)[:characters]) if row.answer else str(row.error)}"
        for row in rows.head(shown).itertuples()
    ]


def _prompt_tags(subject: Subject) -> dict[str, str]:
    if not isinstance(subject, ModelSubject):
        return {}
    return {
        "prompt_fingerprint": subject.prompt.fingerprint,
        "prompt": subject.prompt.settings.name,
        "provider": subject.provider.kind,
        "base_model": subject.provider.base_model,
    }
