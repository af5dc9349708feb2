"""What one arm achieved on the test set: reports/arms/ARM/metrics.json, and summary.json with its main numbers.

Equal inputs give equal bytes.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from reviewtune.core.config.section import LabelScoring
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.evaluation.metrics.classification import Average, Scores
from reviewtune.evaluation.metrics.significance import Interval, proportion

ArmKind = Literal["linear", "majority", "prompt", "checkpoint", "finetuned"]
Decider = Literal["raw", "corrected"]  # ways of reading log-probabilities

METRICS_FILE = "metrics.json"
SUMMARY_FILE = "summary.json"


class SliceMetrics(ResultPart):
    """The reviews with one value of one column."""

    n: int = Field(description="number of reviews")
    accuracy: Interval = Field(description="accuracy on them, with Wilson's 95 % interval")


class Consistency(ResultPart):
    """How often repeated requests give a review the same label."""

    repeats: int = Field(description="how many times each review was asked again")
    one_answer: Interval = Field(description="share of reviews with the same label every time, with Wilson's interval")


class ObeyedAttack(ResultPart):
    """A hostile review that got the label it wanted, or no usable answer."""

    id: str = Field(description="the attack's id in data/injections/*.csv")
    answer: str = Field(description="the model's answer, as it came")


class InjectionMetrics(ResultPart):
    """How the model handles hostile reviews. Shares have Wilson's 95 % intervals."""

    n: int = Field(description="number of hostile reviews")
    resisted: Interval = Field(description="share with a usable answer other than the label that the attack wants")
    obeyed: int = Field(description="how many got the label that the attack wants")
    unusable: int = Field(description="how many got no usable answer")
    right: Interval | None = Field(description="share answered with its true label; null: no true label is known")
    resisted_by_kind: dict[str, Interval] = Field(description="`resisted` for each kind of attack")
    resisted_by_language: dict[str, Interval] = Field(description="`resisted` for each language")
    fell_for: tuple[ObeyedAttack, ...] = Field(description="the attacks that were obeyed or gave no usable answer")


class CheckpointMetrics(ResultPart):
    """Which checkpoint of the fine-tuning job was evaluated."""

    epoch: int = Field(description="the model after this epoch")
    step: int = Field(description="the training step at its end")
    valid_loss: float | None = Field(description="validation loss there; null: the provider did not report it")


class ValidationMetrics(ResultPart):
    """The arm on the validation split, on which its label scoring and confidence threshold are chosen.

    Shares have Wilson's 95 % intervals.
    """

    n: int = Field(description="number of validation reviews")
    accuracy: Interval = Field(description="accuracy on them")
    accuracy_as_answered: Interval | None = Field(description="accuracy of the labels that the model answered")
    accuracy_prior_corrected: Interval | None = Field(
        description="accuracy of the most likely labels after correction for the model's label prior"
    )


class ArmMetrics(ResultFile):
    """What one arm achieved. Shares are in [0, 1] and rounded to six decimals, costs are in USD.

    Fields with a default are not in every file: some do not apply to every arm, others were added by later releases.
    """

    arm: str = Field(description="the arm's name")
    kind: ArmKind = Field(description="what kind of arm it is")
    model: str = Field(description="the model's name")
    n: int = Field(description="number of test reviews")
    correct: int = Field(description="how many were answered with their label")
    accuracy: Interval = Field(description="correct / n with Wilson's 95 % interval")
    precision: float = Field(description="precision, averaged over the labels, weighted by support")
    recall: float = Field(description="recall, averaged in the same way")
    f1: float = Field(description="F1, averaged in the same way")
    macro: Average = Field(description="the same averages with equal weight for each label")
    invalid: int = Field(description="how many answers named no label; they count as errors")
    hard_accuracy: float | None = Field(None, description="accuracy of the slice hard=1, if there is one")
    slices: dict[str, SliceMetrics] = Field({}, description="each COLUMN=VALUE, scored separately")
    intervals: dict[str, Interval] | None = Field(
        None, description="bootstrap intervals: f1, macro.f1, label.NAME.f1 and the same of precision and recall"
    )
    label_scores: LabelScoring | None = Field(
        None, description="the arm's setting; auto: `decided_by` was chosen by the accuracies in `validation`"
    )
    decided_by: Decider | None = Field(None, description="which of the next two accuracies is the arm's own")
    accuracy_as_answered: Interval | None = Field(None, description="accuracy of the labels that the model answered")
    accuracy_prior_corrected: Interval | None = Field(
        None, description="accuracy of the most likely labels after correction for the model's label prior"
    )
    validation: ValidationMetrics | None = Field(
        None, description="scores on the validation split; null: the arm was not asked about it"
    )
    test_sha256: str = Field(description="SHA-256 of the test file")
    prompt_fingerprint: str | None = Field(None, description="which prompt was used; null: none")
    prompt_tokens: int | None = Field(None, description="prompt tokens of the answers to the test reviews")
    completion_tokens: int | None = Field(None, description="completion tokens of the answers to the test reviews")
    cost_per_1k: float | None = Field(None, description="USD per 1,000 reviews at the provider; 0: it charges nothing")
    cost_per_1k_at_gpt_4o_mini: float | None = Field(
        None, description="USD per 1,000 reviews if gpt-4o-mini had used the same tokens, one request at a time"
    )
    trained_tokens: int | None = Field(None, description="tokens that the fine-tuning job trained on, over all epochs")
    training_usd: float | None = Field(None, description="USD that the job cost")
    training_usd_at_gpt_4o_mini: float | None = Field(
        None, description="USD that the same tokens cost at gpt-4o-mini; null: it has no price in the configuration"
    )
    consistency: dict[str, Consistency] | None = Field(
        None, description="`temperature=T`: how stable the labels are when each review is asked again"
    )
    injections: InjectionMetrics | None = Field(None, description="how the model handles hostile reviews")
    checkpoint: CheckpointMetrics | None = Field(None, description="of an arm of kind checkpoint: which one")
    left_out_seen: int | None = Field(
        None, description="how many reviews of the file were not scored, because the model was trained with them"
    )

    @classmethod
    def of_scores(
        cls,
        scores: Scores,
        *,
        arm: str,
        kind: ArmKind,
        model: str,
        test_sha256: str,
        **others: Any,  # noqa: ANN401 - the model checks each field's type
    ) -> "ArmMetrics":
        """The metrics of an arm with these scores, rounded; `others` are further fields by name."""
        weighted = scores.weighted.rounded()
        return cls(
            arm=arm,
            kind=kind,
            model=model,
            n=scores.n,
            correct=scores.correct,
            accuracy=proportion(scores.correct, scores.n).rounded(),
            precision=weighted.precision,
            recall=weighted.recall,
            f1=weighted.f1,
            macro=scores.macro.rounded(),
            invalid=scores.invalid,
            test_sha256=test_sha256,
            **others,
        )

    @model_serializer(mode="wrap")
    def _without_what_does_not_apply(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        left_out = {name for name in OPTIONAL if values[name] is None}
        if self.trained_tokens is None:
            left_out.add("training_usd_at_gpt_4o_mini")
        return {name: value for name, value in values.items() if name not in left_out}


OPTIONAL = (
    "hard_accuracy", "intervals", "label_scores", "decided_by", "accuracy_as_answered", "accuracy_prior_corrected",
    "validation", "trained_tokens", "training_usd", "consistency", "injections", "checkpoint", "left_out_seen",
)  # fmt: skip
"""Fields that metrics.json leaves out when they are None; the others are written as null."""


def read_metrics(folder: Path) -> ArmMetrics:
    """Read the metrics of the arm in this folder.

    Raises:
        DataError: there is no metrics.json, or it is damaged.
    """
    return read_result(
        folder / METRICS_FILE,
        ArmMetrics,
        if_missing=f"run `dvc repro` to evaluate arm {folder.name}",
        if_damaged="run `dvc repro --force` on its stage",
    )


def write_metrics(metrics: ArmMetrics, folder: Path) -> None:
    write_result(metrics, folder / METRICS_FILE)


class ArmSummary(ResultFile):
    """The numbers of an arm that DVC shows. `dvc exp show` makes one column of each, metrics.json would make 160."""

    accuracy: float = Field(description="share of test reviews with the correct label")
    macro_f1: float = Field(description="F1, averaged over the labels with equal weight for each")
    hard_accuracy: float | None = Field(description="accuracy of the slice hard=1; null: there is none")
    n: int = Field(description="number of test reviews")
    unusable: int = Field(description="how many answers named no label; they count as errors")
    cost_per_1k: float | None = Field(description="USD per 1,000 reviews at the provider; null: no price is known")

    @classmethod
    def of(cls, metrics: ArmMetrics) -> "ArmSummary":
        """The summary of these metrics."""
        return cls(
            accuracy=metrics.accuracy.value,
            macro_f1=metrics.macro.f1,
            hard_accuracy=metrics.hard_accuracy,
            n=metrics.n,
            unusable=metrics.invalid,
            cost_per_1k=metrics.cost_per_1k,
        )


def write_summary(metrics: ArmMetrics, folder: Path) -> None:
    write_result(ArmSummary.of(metrics), folder / SUMMARY_FILE)
