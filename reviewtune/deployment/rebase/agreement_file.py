"""reports/rebase/agreement.json: what can be said of the new model where no review has a label of a person."""

from pathlib import Path

from pydantic import Field

from reviewtune.core.atomic_files import write_text
from reviewtune.core.formatting import (
    NONE,
    counted,
    markdown_table,
    money,
    rate,
    seconds,
    with_interval,
)
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.deployment.rebase.parity_file import KeptAnswers, report_folder
from reviewtune.deployment.rebase.report_tables import kept_sentences
from reviewtune.evaluation.metrics.significance import Interval

REPORT, MARKDOWN, TABLE = "agreement.json", "agreement.md", "held_out.csv"
LABELS = ("label of the old model", "reviews", "same label")
NOT_COMPARED = (
    "accuracy of either model: no person has labelled a review here, so it is not known who is right where they differ",
    "the gates of `reviewtune promote`: they need labelled test reviews, so this model cannot be promoted",
    "confidence: whether it fits cannot be seen without labels",
)


class LabelAgreement(ResultPart):
    """One label of the old model."""

    label: str = Field(description="what the old model answered")
    reviews: int = Field(description="held-out reviews with this answer")
    same: Interval = Field(description="share of them to which the new model gives the same label")


class AgreementReport(ResultFile):
    """The outcome of one `reviewtune rebase --teacher` without labelled reviews."""

    data: str = Field(description="name of the data set")
    old: str = Field(description="the old model")
    new: str = Field(description="the new model")
    provider: str = Field(description="provider.kind of the new model")
    base_model: str = Field(description="the model that it was trained from")
    n: int = Field(description="held-out reviews: answered by the old model, and not in the training file")
    agreement: Interval = Field(description="share of them to which both give the same label, right or wrong")
    labels: tuple[LabelAgreement, ...] = Field(
        description="the same by label of the old model, the most frequent first"
    )
    unusable: int = Field(description="answers of the new model that name no label; they count as different")
    cost_per_1k: float | None = Field(description="USD per 1,000 reviews of the new model; null: not known")
    latency_p95: float | None = Field(description="95th percentile of its latency in seconds; null: not known")
    reviews_per_second: float | None = Field(description="its throughput; null: not known")
    not_compared: tuple[str, ...] = Field(NOT_COMPARED, description="what nobody can say without labels")
    training_sha256: str = Field(description="SHA-256 of its training file")
    job_id: str = Field(description="its fine-tuning job")
    run_id: str = Field(description="MLflow run of its evaluation, whose labels are the old model's answers")
    kept: KeptAnswers = Field(description="the answers of the old model")


def write_agreement(report: AgreementReport, root: Path) -> list[Path]:
    """Write the report as JSON and as Markdown, and return the paths."""
    paths = [report_folder(root) / REPORT, report_folder(root) / MARKDOWN]
    write_result(report, paths[0])
    write_text(agreement_markdown(report), paths[1])
    return paths


def read_agreement(root: Path) -> AgreementReport:
    """Read the project's last report.

    Raises:
        DataError: there is none, or it is damaged.
    """
    hint = "`reviewtune rebase --teacher MODEL --reviews FILE` without labelled reviews writes it"
    return read_result(report_folder(root) / REPORT, AgreementReport, if_missing=hint, if_damaged=hint)


def label_rows(report: AgreementReport) -> list[tuple[str, str, str]]:
    return [(one.label, str(one.reviews), with_interval(one.same)) for one in report.labels]


def agreement_sentences(report: AgreementReport) -> list[str]:
    """What was compared, what was not, and what to do next."""
    speed = [
        f"{money(report.cost_per_1k)} per 1,000 reviews" if report.cost_per_1k is not None else "",
        f"95 of 100 answers within {seconds(report.latency_p95)}" if report.latency_p95 is not None else "",
        f"{rate(report.reviews_per_second)} reviews per second" if report.reviews_per_second is not None else "",
    ]
    known = f"{report.new} ({report.provider}, from {report.base_model}): {', '.join(filter(None, speed)) or NONE}"
    compared = (
        f"compared: both give the same label to {with_interval(report.agreement)} of "
        f"{counted(report.n, 'held-out review')}, which the new model was not trained on; "
        f"{counted(report.unusable, 'unusable answer')} of the new model"
    )
    label = (
        f"next: label the reviews in reports/rebase/{TABLE} (column label), first those on which the two differ; with "
        "labelled reviews in the project, `dvc repro split` and the same command compare the accuracy"
    )
    return [
        compared,
        f"measured: {known}",
        *(f"not compared: {what}" for what in report.not_compared),
        *kept_sentences(report.kept, labelled=0),
        label,
        f"`reviewtune classify FILE --out OUT.csv --model {report.new}` answers with it until then",
    ]


def agreement_markdown(report: AgreementReport) -> str:
    """The whole report."""
    parts = [
        "# Agreement report",
        f"{report.data}: {report.new} against {report.old}, whose answers are all that is known. **Not judged**",
        "\n".join(f"- {line}" for line in agreement_sentences(report)),
        "## By label",
        markdown_table(LABELS, label_rows(report)),
    ]
    return "\n\n".join(parts) + "\n"
