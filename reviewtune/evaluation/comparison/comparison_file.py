"""reports/comparison.json: all arms side by side, and the tests of one against another. Equal inputs give equal bytes.

Shares are in [0, 1], costs in USD; both are rounded to six decimals.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from reviewtune.core.config.section import LabelScoring
from reviewtune.core.result_file import ResultFile, ResultPart, read_result
from reviewtune.evaluation.metrics.significance import Interval, Verdict
from reviewtune.evaluation.metrics_file import (
    ArmKind,
    CheckpointMetrics,
    Consistency,
    Decider,
    InjectionMetrics,
    SliceMetrics,
    ValidationMetrics,
)

COMPARISON_FILE = "comparison.json"
Times = Literal["measured now", "recorded", "partly recorded"]


def _is_none(value: object) -> bool:
    return value is None


class LabelTest(ResultPart):
    """Which of two arms handles one label better."""

    f1_difference: Interval = Field(description="F1 of this arm minus F1 of the other, with bootstrap interval")
    only_this_right: int = Field(description="number of reviews for which only this arm handles the label right")
    only_other_right: int = Field(description="number of reviews for which only the other arm does")
    holm_p: float = Field(description="p-value of McNemar's test, with Holm's correction for the number of labels")
    verdict: Verdict = Field(description="this arm compared with the other")


class PairwiseTest(ResultPart):
    """One arm ("this") against another on the same reviews. Differences are this arm's score minus the other's."""

    difference: Interval = Field(description="difference in accuracy, with paired bootstrap interval")
    f1_difference: Interval = Field(description="difference in weighted F1, with paired bootstrap interval")
    mcnemar_p: float = Field(description="p-value of the exact McNemar test, uncorrected")
    holm_p: float = Field(description="the same with Holm's correction for the number of tests in the table")
    only_this_right: int = Field(description="number of reviews that only this arm classifies correctly")
    only_other_right: int = Field(description="number of reviews that only the other arm classifies correctly")
    detectable_difference: float | None = Field(
        description="smallest true difference in accuracy that 8 of 10 such test sets would show; null: none would"
    )
    verdict: Verdict = Field(description="this arm compared with the other")
    per_label: dict[str, LabelTest] = Field(description="the same question for each label")


class ReferenceTest(PairwiseTest):
    """The other arm is the reference; the file names it in the key of its count."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    only_other_right: int = Field(
        alias="only_reference_right", description="number of reviews that only the reference classifies correctly"
    )


class ArmRow(ResultPart):
    """One arm: its scores, cost and speed, and its test against the reference.

    The file leaves out the fields with a default when they do not apply to the arm.
    """

    arm: str = Field(description="the arm's name")
    kind: ArmKind = Field(description="what kind of arm it is")
    model: str = Field(description="the model's name")
    accuracy: Interval = Field(description="accuracy, with Wilson's 95 % interval")
    precision: float = Field(description="precision, averaged over the labels, weighted by support")
    recall: float = Field(description="recall, averaged in the same way")
    f1: float = Field(description="F1, averaged in the same way")
    macro_f1: float = Field(description="F1, averaged with equal weight for each label")
    hard_accuracy: float | None = Field(None, exclude_if=_is_none, description="accuracy of the slice hard=1")
    slices: dict[str, SliceMetrics] = Field(description="each COLUMN=VALUE, scored separately")
    never_answered: dict[str, int] = Field(
        {}, description="labels that the arm never answers: how many test reviews have each of them"
    )
    label_scores: LabelScoring | None = Field(
        None, exclude_if=_is_none, description="the arm's setting; auto: `validation` chose `decided_by`"
    )
    decided_by: Decider | None = Field(
        None, exclude_if=_is_none, description="which of the next two accuracies is the arm's own"
    )
    accuracy_as_answered: Interval | None = Field(
        None, exclude_if=_is_none, description="accuracy of the labels that the model answered"
    )
    accuracy_prior_corrected: Interval | None = Field(
        None, exclude_if=_is_none, description="accuracy after correction for the model's label prior"
    )
    validation: ValidationMetrics | None = Field(
        None, exclude_if=_is_none, description="the arm on the validation split, as in metrics.json"
    )
    intervals: dict[str, Interval] | None = Field(
        None, exclude_if=_is_none, description="bootstrap intervals of all scores, as in metrics.json"
    )
    consistency: dict[str, Consistency] | None = Field(
        None, exclude_if=_is_none, description="`temperature=T`: how stable the labels are"
    )
    checkpoint: CheckpointMetrics | None = Field(
        None, exclude_if=_is_none, description="of an arm of kind checkpoint: which one"
    )
    injections: InjectionMetrics | None = Field(
        None, exclude_if=_is_none, description="how the model handles hostile reviews"
    )
    cost_per_1k: float | None = Field(description="USD per 1,000 reviews at the provider; null: not known")
    cost_per_1k_at_gpt_4o_mini: float | None = Field(description="USD per 1,000 reviews at gpt-4o-mini's prices")
    prompt_tokens: int | None = Field(description="prompt tokens of all answers")
    completion_tokens: int | None = Field(description="completion tokens of all answers")
    invalid: int = Field(description="number of answers that named no label; they count as errors")
    latency_p50: float | None = Field(description="median latency of a request, in seconds; null: all came in batches")
    latency_p95: float | None = Field(description="95th percentile of the latency")
    latency_p99: float | None = Field(description="99th percentile of the latency")
    reviews_per_second: float | None = Field(description="throughput")
    times: Times | None = Field(description="whether the times were measured in this run or kept with cached answers")
    mlflow_run_id: str | None = Field(description="id of the arm's MLflow run")
    against_reference: ReferenceTest | None = Field(description="null: this arm is the reference")


class ReliabilityBin(ResultPart):
    """The reviews with a confidence in one tenth of [0, 1]."""

    low: float = Field(description="where the bin starts")
    n: int = Field(description="number of reviews")
    confidence: float = Field(description="their mean confidence")
    accuracy: Interval = Field(description="their accuracy, with Wilson's 95 % interval")


class AbstentionReport(ResultPart):
    """The outcome of answering only where the confidence reaches a threshold."""

    wanted_accuracy: float = Field(description="the accuracy that the threshold is chosen for")
    threshold: float | None = Field(
        None, description="chosen on the validation reviews; null: none reaches the accuracy on them"
    )
    thresholds: tuple[float | None, float | None] | None = Field(
        None,
        exclude_if=_is_none,
        description="of earlier releases: those of the two halves of the test reviews, each chosen on the other half",
    )
    coverage: Interval = Field(description="share of reviews that were answered")
    accuracy: Interval | None = Field(description="accuracy on them; null: none was answered")


class ConfidenceReport(ResultPart):
    """How far one arm's confidence can be trusted."""

    calibration_error: Interval = Field(description="expected calibration error, with bootstrap interval")
    reliability: tuple[ReliabilityBin, ...] = Field(description="bins from low to high; empty bins are left out")
    abstention: AbstentionReport | None = Field(
        description="the outcome of answering only confident reviews; null: no validation reviews to choose a threshold"
    )


class Cascade(ResultPart):
    """Two-stage classification: `first` answers where it is confident, `second` takes the rest."""

    first: str = Field(description="the arm that sees every review")
    second: str = Field(description="another arm, or `person`")
    wanted_accuracy: float = Field(description="the accuracy that the threshold is chosen for")
    threshold: float | None = Field(None, description="as in `AbstentionReport`")
    thresholds: tuple[float | None, float | None] | None = Field(
        None, exclude_if=_is_none, description="as in `AbstentionReport`"
    )
    coverage: Interval = Field(description="share of reviews that the first arm keeps")
    accuracy: Interval | None = Field(description="its accuracy on them; null: it keeps none")
    routed: float = Field(description="share of reviews that the second takes")
    second_accuracy: Interval | None = Field(description="its accuracy on them; null: it takes none")
    cascade_accuracy: Interval = Field(description="accuracy of both together, on all reviews")
    cost_per_1k: float | None = Field(description="USD per 1,000 reviews for both together; null: not known")


class CostComparison(ResultPart):
    """The fine-tuned arm against a prompt arm at one set of prices."""

    training_usd: float = Field(description="USD that the fine-tuning job cost")
    cost_per_1k: float = Field(description="USD per 1,000 reviews of the fine-tuned arm, without training")
    cost_per_1k_of_the_prompt: float = Field(description="USD per 1,000 reviews of the prompt arm")
    amortised_per_1k: dict[int, float] = Field(
        description="number of reviews: USD per 1,000 of them with the training's cost spread over all of them"
    )
    break_even_reviews: int | None = Field(
        description="from how many reviews on the fine-tuned arm costs no more in total; 0: at once, null: never"
    )


class BreakEven(ResultPart):
    """When the cost of training pays off. null: a price is not known."""

    against: str = Field(
        description="the prompt arm with the best accuracy on the validation reviews; if no prompt arm was asked about "
        "them, the reference"
    )
    at_provider: CostComparison | None = Field(description="at what the provider charged")
    at_gpt_4o_mini: CostComparison | None = Field(description="at what OpenAI would have charged")


class Candidate(ResultPart):
    """One arm on the validation reviews, against the most accurate arm there."""

    arm: str = Field(description="the arm's name")
    validation_accuracy: Interval = Field(description="accuracy on the validation reviews, with Wilson's 95 % interval")
    difference: Interval = Field(
        description="that accuracy minus the best arm's, with Tango's 95 % score interval for paired proportions"
    )
    not_worse: bool = Field(description="the interval excludes a loss of more than the margin; true for the best arm")
    cost_per_1k: float | None = Field(
        description="USD per 1,000 reviews: the provider's, or gpt-4o-mini's prices if that charges nothing; "
        "0: no model is asked, null: not known"
    )


class Recommendation(ResultPart):
    """The cheapest arm that is not worse than the most accurate one, chosen on the validation reviews."""

    arm: str | None = Field(description="the recommended arm; null: fewer than two arms have validation predictions")
    best: str | None = Field(description="the most accurate arm on the validation reviews; null as for `arm`")
    margin: float = Field(description="the loss of accuracy that counts as not worse, a share in [0, 1]")
    n: int = Field(description="number of validation reviews")
    candidates: tuple[Candidate, ...] = Field(description="the arms with validation predictions, cheapest first")
    without_validation: tuple[str, ...] = Field((), description="arms that were not asked about validation reviews")


class Comparison(ResultFile):
    """All arms, in the order of the configuration, and the tests between them."""

    reference: str = Field(description="the arm that the others are tested against")
    n: int = Field(description="number of test reviews")
    test_sha256: str = Field(description="SHA-256 of the test file")
    labels: tuple[str, ...] = Field(description="all labels")
    without_reviews: tuple[str, ...] = Field((), description="labels that no test review has")
    arms: tuple[ArmRow, ...] = Field(description="one row per arm")
    confidence: dict[str, ConfidenceReport] = Field(description="each arm that gives a confidence")
    cascade: Cascade | None = Field(description="the configured cascade; null: it could not be measured")
    finetuned_against: dict[str, PairwiseTest] = Field(
        description="each other arm: the fine-tuned arm tested against it; empty: there is no fine-tuned arm"
    )
    economics: BreakEven | None = Field(
        None, description="when the fine-tuned arm pays off; null: there is no fine-tuned arm or no prompt arm"
    )
    recommendation: Recommendation | None = Field(None, description="which arm to use; null in files of 0.1.0")

    @model_validator(mode="after")
    def _reference_is_an_arm(self) -> Self:
        if all(arm.arm != self.reference for arm in self.arms):
            raise ValueError(f"reference: {self.reference!r} is not one of the arms")
        return self

    @property
    def finetuned(self) -> ArmRow | None:
        """The fine-tuned arm, if there is one."""
        return next((arm for arm in self.arms if arm.kind == "finetuned"), None)

    @property
    def is_free(self) -> bool:
        """Whether the provider charges for no arm; costs are then compared at gpt-4o-mini's prices."""
        return not any(arm.cost_per_1k for arm in self.arms)

    def arm(self, name: str) -> ArmRow:
        """The arm of that name.

        Raises:
            StopIteration: there is none.
        """
        return next(arm for arm in self.arms if arm.arm == name)

    @property
    def reference_arm(self) -> ArmRow:
        """The arm that the others are tested against."""
        return self.arm(self.reference)


def read_comparison(folder: Path) -> Comparison:
    """Read the comparison in this folder, which is usually reports/.

    Raises:
        DataError: there is no comparison.json, or it is damaged.
    """
    return read_result(
        folder / COMPARISON_FILE,
        Comparison,
        if_missing="run `make repro` to evaluate and compare the arms",
        if_damaged="run `dvc repro --force compare`",
    )
