"""What an arm achieved, as files and in its MLflow run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reviewtune.core.atomic_files import write_json
from reviewtune.evaluation import plots
from reviewtune.evaluation.metrics.classification import INVALID, Scores, per_label_table
from reviewtune.evaluation.subject import Subject
from reviewtune.tracking.runs import Run

if TYPE_CHECKING:
    pass

CONFUSION = "confusion_matrix.png"


@dataclass(frozen=True)
class Evaluation:
    """What an arm achieved."""

    subject: Subject
    predictions: pd.DataFrame
    scores: Scores
    metrics: dict[str, Any]
    timings: dict[str, float | int | str | None]


def write(evaluation: Evaluation, folder: Path) -> None:
    """The tables and confusion_matrix.png; run.json comes with the run's id."""
    write_tables(evaluation, folder)
    (folder / CONFUSION).write_bytes(plots.confusion_matrix(evaluation.scores, evaluation.subject.title))


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """metrics.json, predictions.csv and per_label.csv."""
    write_json(evaluation.metrics, folder / "metrics.json")
    labels = evaluation.predictions.drop(columns="confidence", errors="ignore")
    labels.to_csv(folder / "predictions.csv", index=False, lineterminator="\n")
    per_label_table(evaluation.scores).to_csv(folder / "per_label.csv", index=False, lineterminator="\n")


def write_run(evaluation: Evaluation, folder: Path, run_id: str) -> None:
    table = evaluation.predictions
    sure = table["confidence"].tolist() if "confidence" in table else []
    write_json({"mlflow_run_id": run_id, **evaluation.timings}, folder / "run.json")
    write_json({"confidence": sure}, folder / "confidence.run.json")


def log(run: Run, evaluation: Evaluation, folder: Path) -> None:
    """Metrics, tags, the predictions as a table and every file of the arm's folder."""
    with run.together():
        _note(run, evaluation)
    for path in sorted(folder.iterdir()):
        if not path.name.endswith("run.json"):
            run.artifact(path)


def _note(run: Run, evaluation: Evaluation) -> None:
    metrics, subject = evaluation.metrics, evaluation.subject
    run.tags({"arm": subject.arm, "arm_kind": subject.kind, "model": subject.model, **_prompt_tags(subject)})
    numbers = {"accuracy": metrics["accuracy"]["value"]}  # first: MLflow's compare page plots what was logged first
    numbers |= {name: metrics[name] for name in ("precision", "recall", "f1", "invalid", "n")}
    numbers |= {"macro_f1": metrics["macro"]["f1"]}
    numbers |= {f"accuracy_{end}": metrics["accuracy"][end] for end in ("low", "high")}
    numbers |= {name: value for name, value in metrics.items() if name.endswith(("_tokens", "_accuracy"))}
    numbers |= {name: value for name, value in metrics.items() if name.startswith("cost_")}
    everything = {**numbers, **evaluation.timings}
    run.metrics({name: value for name, value in everything.items() if isinstance(value, int | float)})
    run.metrics({f"f1.{label}": one.f1 for label, one in evaluation.scores.per_label.items()})
    run.table(evaluation.predictions, "predictions.json")


def unusable(evaluation: Evaluation) -> pd.DataFrame:
    """The rows whose answer named no label of the list."""
    return evaluation.predictions[evaluation.predictions["predicted"] == INVALID]


def samples(rows: pd.DataFrame, *, shown: int, characters: int | None = None) -> list[str]:
    """A line for each of the first unusable rows: what was answered, or why nothing was."""
    return [
        f"  {row.review_id}: {repr(str(row.answer)[:characters]) if row.answer else str(row.error)}"
        for row in rows.head(shown).itertuples()
    ]


def _prompt_tags(subject: Subject) -> dict[str, str]:
    if subject.prompt is None or subject.provider is None:
        return {}
    return {
        "prompt_fingerprint": subject.prompt.fingerprint,
        "prompt": subject.prompt.settings.name,
        "provider": subject.provider.kind,
        "base_model": subject.provider.base_model,
    }
