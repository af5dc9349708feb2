"""reports/rebase/rebase.json: the old and the new model on the same test reviews, and what was kept of the old one."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.core.project import ProjectPaths
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.deployment.gates_file import Gate
from reviewtune.evaluation.comparison.comparison_file import PairwiseTest
from reviewtune.evaluation.metrics.significance import Interval

FOLDER, REPORT, MARKDOWN = "rebase", "rebase.json", "rebase.md"

Seen = Literal["asked", "evaluation", "promotion"]
Weighting = Literal["calibrated", "uncalibrated", "none"]


class Side(ResultPart):
    """One of the two models on the test reviews."""

    title: str = Field(description="such as the champion (version 3, finetuned)")
    arm: str = Field(description="its arm's name, such as finetuned")
    model: str = Field(description="the model's name")
    provider: str | None = Field(description="provider.kind; null: a baseline without a provider")
    base_model: str | None = Field(description="the model that it was trained from; null as above")
    seen: Seen = Field(
        description="asked: its provider or the answer cache answered; evaluation: the files of the last `dvc repro`; "
        "promotion: only its labels are known, from its promotion"
    )
    accuracy: Interval = Field(description="accuracy with Wilson's 95 % interval")
    macro_f1: float = Field(description="F1, averaged over the labels with equal weight for each")
    f1: dict[str, float] = Field(description="F1 of each label")
    unusable: int = Field(description="answers that name no label; they count as errors")
    cost_per_1k: float | None = Field(description="USD per 1,000 reviews; null: not known")
    training_usd: float | None = Field(description="USD that its fine-tuning job cost; null: not known")
    latency_p50: float | None = Field(description="median latency in seconds; null: not known")
    latency_p95: float | None = Field(description="95th percentile of the latency in seconds; null: not known")
    reviews_per_second: float | None = Field(description="throughput; null: not known")
    mean_confidence: float | None = Field(description="mean confidence, not calibrated; null: it gives none")
    calibration_error: float | None = Field(description="expected calibration error of that confidence; null: none")


class KeptAnswers(ResultPart):
    """What was kept of the old model: its answers to reviews without a label."""

    teacher: str = Field(description="the old model's name")
    file: str = Field(description="the file with the answers, relative to the project")
    reviews: str = Field(description="the file with the reviews")
    reviews_sha256: str = Field(description="SHA-256 of that file")
    left_out: dict[str, int] = Field(description="reviews of the file that were not asked, by reason")
    asked: int = Field(description="reviews that were to be asked")
    answered: int = Field(description="how many of them got a label")
    unusable: int = Field(description="how many got an answer without a label")
    not_asked: int = Field(description="how many were not asked, because the budget or the old model ended")
    ended: str | None = Field(description="why the old model was not asked about all; null: it was")
    spent_usd: float = Field(description="USD that the answers cost")
    validation_accuracy: Interval | None = Field(
        description="share of the validation reviews that the old model labels right, which is how right its answers "
        "are if both are alike; null: not known"
    )
    weighting: Weighting = Field(
        description="how its confidence is used: calibrated on the validation reviews; uncalibrated, if they are too "
        "few; none: it gives no confidence"
    )
    too_unsure: int = Field(description="answers more likely wrong than right, which were left out")
    drawn_out: int = Field(description="answers that were left out by chance, in proportion to the old model's doubt")
    trained_on: int = Field(description="answers that the new model was trained on")


class RebaseReport(ResultFile):
    """The outcome of one `reviewtune rebase`."""

    data: str = Field(description="name of the data set")
    n: int = Field(description="number of test reviews")
    test_sha256: str = Field(description="SHA-256 of the test split")
    support: dict[str, int] = Field(description="test reviews of each label")
    old: Side | None = Field(description="the model to be left; null: nothing is known of its answers")
    new: Side = Field(description="the model on the other provider")
    test: PairwiseTest | None = Field(description="the new model (`this`) against the old one; null: no old answers")
    agreement: Interval | None = Field(description="share of the test reviews to which both give the same label")
    gates: tuple[Gate, ...] = Field(description="those of `reviewtune promote`, but for git")
    verdict: Literal["passed", "failed"] = Field(description="passed: no gate failed")
    labelled: int = Field(description="labelled reviews that the new model was trained on")
    training_sha256: str = Field(description="SHA-256 of its training file")
    job_id: str = Field(description="its fine-tuning job")
    run_id: str = Field(description="MLflow run of its evaluation, which `reviewtune promote` takes")
    kept: KeptAnswers | None = Field(description="the answers of --teacher; null: it was not asked")
    notes: tuple[str, ...] = Field(description="what limits the comparison, one sentence each")

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if gate.outcome == "failed")


def report_folder(root: Path) -> Path:
    return ProjectPaths(root).reports / FOLDER


def read_report(root: Path) -> RebaseReport:
    """Read the project's last report.

    Raises:
        DataError: there is none, or it is damaged.
    """
    hint = "`reviewtune rebase --provider NAME` writes it"
    return read_result(report_folder(root) / REPORT, RebaseReport, if_missing=hint, if_damaged=hint)


def write_report(report: RebaseReport, root: Path) -> Path:
    """Write rebase.json and return its path."""
    path = report_folder(root) / REPORT
    write_result(report, path)
    return path
