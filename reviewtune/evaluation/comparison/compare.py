"""All arms side by side: each against the reference, and the fine-tuned arm against each, on the same reviews.

`load_arm` reads the files of an evaluation, `compare` computes the content of reports/comparison.json. outputs.py makes
the report's files from it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.config.arms import CascadeConfig
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.break_even import break_even_report
from reviewtune.evaluation.comparison.cascade import cascade_report
from reviewtune.evaluation.comparison.comparison_file import ArmRow, Comparison, PairwiseTest, ReferenceTest
from reviewtune.evaluation.comparison.confidence_report import confidence_reports, thresholds_for
from reviewtune.evaluation.comparison.pairwise_tests import Pair, pairwise_tests
from reviewtune.evaluation.comparison.recommendation import MARGIN, recommend
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.evaluation.metrics_file import ArmKind, ArmMetrics, read_metrics
from reviewtune.evaluation.results import VALIDATION
from reviewtune.evaluation.run_file import ArmRun, read_run

if TYPE_CHECKING:
    import pandas as pd

HARD = "hard=1"


@dataclass(frozen=True)
class Arm:
    """The files of one arm's evaluation, in reports/arms/ARM/.

    Attributes:
        metrics: metrics.json.
        run: run.json.
        predictions: predictions.csv, with the column `confidence` from confidence.run.json where the arm has one.
        validation: the same of validation_predictions.csv; None: the arm did not classify the validation split.
        per_label: per_label.csv.
    """

    metrics: ArmMetrics
    run: ArmRun
    predictions: "pd.DataFrame"
    per_label: "pd.DataFrame"
    validation: "pd.DataFrame | None" = None

    @property
    def name(self) -> str:
        """The arm's name, such as zero_shot."""
        return self.metrics.arm

    @property
    def kind(self) -> ArmKind:
        """What kind of arm it is."""
        return self.metrics.kind

    @property
    def accuracy(self) -> Interval:
        """Accuracy with its 95 % interval."""
        return self.metrics.accuracy


def load_arm(folder: Path) -> Arm:
    """Read reports/arms/ARM/.

    Raises:
        DataError: a file is missing or damaged, or the files are not from one evaluation.
    """
    metrics, run = read_metrics(folder), read_run(folder)
    try:
        predictions, per_label, validation = _predictions(folder), _per_label(folder), _validation(folder)
        distinct = predictions["review_id"].nunique()
        correct = int((predictions["label"] == predictions["predicted"]).sum())
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing: run `dvc repro` to evaluate arm {folder.name}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: damaged ({error!r}): run `dvc repro --force` on its stage") from error
    if not len(predictions) == distinct == metrics.n or correct != round(metrics.accuracy.value * metrics.n):
        raise DataError(f"{folder}: metrics.json and predictions.csv disagree: run `dvc repro --force` on its stage")
    return Arm(metrics=metrics, run=run, predictions=predictions, per_label=per_label, validation=validation)


def compare(
    arms: Sequence[Arm],
    *,
    reference: str,
    seed: int,
    resamples: int,
    cascade: CascadeConfig,
    margin: float = MARGIN,
) -> Comparison:
    """Test every arm against the reference, and the fine-tuned arm against every other; recommend one of them.

    Args:
        arms: in the order of the report.
        reference: name of the arm that the others are tested against.
        seed: seed of the bootstrap.
        resamples: number of the bootstrap's resamples.
        cascade: which arms answer one after the other.
        margin: the loss of accuracy, a share in (0, 1), that is accepted for a cheaper arm.

    Raises:
        DataError: the reference, or an arm of the cascade, is not one of the arms; two arms were not evaluated on the
            same test set.
    """
    base = _reference(arms, reference)
    for arm in arms:
        _refuse_other_test(base, arm)
    finetuned = next((arm for arm in arms if arm.kind == "finetuned"), None)
    labels, metrics = tuple(base.per_label["label"]), [arm.metrics for arm in arms]
    against_reference = pairwise_tests(_pairs_with(base, arms), labels, seed=seed, resamples=resamples)
    predictions = {arm.name: arm.predictions for arm in arms}
    costs = {arm.name: arm.metrics.cost_per_1k for arm in arms}
    validation = {arm.name: arm.validation for arm in arms if arm.validation is not None}
    thresholds = thresholds_for(validation, cascade.wanted_accuracy)
    return Comparison(
        reference=reference,
        n=len(base.predictions),
        test_sha256=base.metrics.test_sha256,
        labels=labels,
        arms=tuple(_row(arm, against_reference.get(arm.name)) for arm in arms),
        without_reviews=tuple(base.per_label.loc[base.per_label["support"] == 0, "label"]),
        confidence=confidence_reports(predictions, thresholds, wanted_accuracy=cascade.wanted_accuracy, seed=seed),
        cascade=cascade_report(predictions, thresholds, costs, cascade),
        finetuned_against=pairwise_tests(_pairs_of(finetuned, arms), labels, seed=seed, resamples=resamples),
        economics=break_even_report(metrics, reference=reference),
        recommendation=recommend(metrics, validation, margin=margin),
    )


def _predictions(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    names = ("review_id", "label", "predicted", "label_second")  # a label may look like a number, or like True
    table = pd.read_csv(folder / "predictions.csv", dtype=dict.fromkeys(names, str), keep_default_na=False)
    confidence = _confidences(folder)["confidence"]
    return table.assign(confidence=confidence) if confidence else table


def _validation(folder: Path) -> "pd.DataFrame | None":
    """None also for results of earlier releases, which have no such file."""
    import pandas as pd

    path = folder / VALIDATION
    table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame()
    confidence = _confidences(folder).get("validation")
    if table.empty:
        return None
    return table.assign(confidence=confidence) if confidence else table


def _confidences(folder: Path) -> dict[str, list[float]]:
    content: dict[str, list[float]] = json.loads((folder / "confidence.run.json").read_text(encoding="utf-8"))
    return content


def _per_label(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(folder / "per_label.csv", dtype={"label": str}, keep_default_na=False)


def _reference(arms: Sequence[Arm], name: str) -> Arm:
    by_name = {arm.name: arm for arm in arms}
    if name not in by_name:
        raise DataError(f"reference arm {name!r} is not one of: {', '.join(by_name)}; set evaluation.reference")
    return by_name[name]


def _pairs_with(base: Arm, arms: Sequence[Arm]) -> dict[str, Pair]:
    """Each other arm, against the base."""
    return {arm.name: Pair(this=arm.predictions, other=base.predictions) for arm in arms if arm is not base}


def _pairs_of(finetuned: Arm | None, arms: Sequence[Arm]) -> dict[str, Pair]:
    """The fine-tuned arm, against each other arm."""
    if finetuned is None:
        return {}
    return {arm.name: Pair(this=finetuned.predictions, other=arm.predictions) for arm in arms if arm is not finetuned}


def _row(arm: Arm, test: PairwiseTest | None) -> ArmRow:
    metrics, run = arm.metrics, arm.run
    return ArmRow(
        arm=metrics.arm,
        kind=metrics.kind,
        model=metrics.model,
        accuracy=metrics.accuracy,
        precision=metrics.precision,
        recall=metrics.recall,
        f1=metrics.f1,
        macro_f1=metrics.macro.f1,
        hard_accuracy=metrics.slices[HARD].accuracy.value if HARD in metrics.slices else None,
        slices=metrics.slices,
        never_answered=_never_answered(arm),
        label_scores=metrics.label_scores,
        decided_by=metrics.decided_by,
        accuracy_as_answered=metrics.accuracy_as_answered,
        accuracy_prior_corrected=metrics.accuracy_prior_corrected,
        validation=metrics.validation,
        intervals=metrics.intervals,
        consistency=metrics.consistency,
        checkpoint=metrics.checkpoint,
        injections=metrics.injections,
        cost_per_1k=metrics.cost_per_1k,
        cost_per_1k_at_gpt_4o_mini=metrics.cost_per_1k_at_gpt_4o_mini,
        prompt_tokens=metrics.prompt_tokens,
        completion_tokens=metrics.completion_tokens,
        invalid=metrics.invalid,
        latency_p50=run.latency_p50,
        latency_p95=run.latency_p95,
        latency_p99=run.latency_p99,
        reviews_per_second=run.reviews_per_second,
        times=run.times,
        mlflow_run_id=run.mlflow_run_id,
        against_reference=ReferenceTest.model_validate(dict(test)) if test else None,
    )


def _never_answered(arm: Arm) -> dict[str, int]:
    """Test reviews of each label that has some but that the arm never answers."""
    missed = arm.per_label[(arm.per_label["support"] > 0) & (arm.per_label["predicted"] == 0)]
    return dict(zip(missed["label"], missed["support"].tolist(), strict=True))


def _refuse_other_test(base: Arm, arm: Arm) -> None:
    """Two arms must have the same reviews, labels and label list; the order of the rows may differ."""
    pair = f"arms {base.name} and {arm.name}"
    if base.metrics.test_sha256 != arm.metrics.test_sha256:
        raise DataError(f"{pair} were scored on different test files: run `dvc repro` to score both on the same one")
    if _labels_by_review(base) != _labels_by_review(arm):
        raise DataError(f"{pair} answered different reviews: run `dvc repro` to score both on the same test file")
    if base.per_label["label"].tolist() != arm.per_label["label"].tolist():
        raise DataError(f"{pair} chose from different label lists: run `dvc repro` to score both with the same one")


def _labels_by_review(arm: Arm) -> dict[str, str]:
    return dict(zip(arm.predictions["review_id"], arm.predictions["label"], strict=True))
