"""Compare the old and the new model on the same test reviews, and judge by the gates of `reviewtune promote`."""

from collections.abc import Sequence
from pathlib import Path

from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.deployment import gates
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.gates_file import Gate
from reviewtune.deployment.measuring import Asked
from reviewtune.deployment.promotion import own_gates
from reviewtune.deployment.rebase.old_model import Measured, OldModel
from reviewtune.deployment.rebase.parity_file import Seen, Side
from reviewtune.deployment.served_folder import served_model
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import PairwiseTest
from reviewtune.evaluation.comparison.pairwise_tests import Pair, pairwise_tests
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics.significance import DIGITS, SEED, Interval, proportion
from reviewtune.evaluation.subject import ModelSubject

LEFT_TO_PROMOTE = "git"  # a gate that says nothing about the model


def side(asked: Asked, arm: Arm, *, title: str, seen: Seen) -> Side:
    """One model in the report.

    Args:
        asked: the model and how it is asked.
        arm: its scores.
        title: who it is.
        seen: where its answers come from.
    """
    metrics, run = arm.metrics, arm.run
    subject = asked.subject
    provider = subject.provider if isinstance(subject, ModelSubject) else None
    confidence = arm.predictions["confidence"].astype(float) if "confidence" in arm.predictions else None
    return Side(
        title=title,
        arm=asked.arm,
        model=asked.model,
        provider=provider.kind if provider else None,
        base_model=provider.base_model if provider else None,
        seen=seen,
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro.f1,
        f1=dict(zip(arm.per_label["label"], arm.per_label["f1"].astype(float), strict=True)),
        unusable=metrics.invalid,
        cost_per_1k=metrics.cost_per_1k,
        training_usd=metrics.training_usd if metrics.trained_tokens else None,
        latency_p50=run.latency_p50,
        latency_p95=run.latency_p95,
        reviews_per_second=run.reviews_per_second,
        mean_confidence=None if confidence is None else round(float(confidence.mean()), DIGITS),
        calibration_error=run.calibration_error,
    )


def paired_test(new: Arm, old: Arm, labels: Sequence[str], *, resamples: int) -> PairwiseTest:
    """The new model (`this`) against the old one.

    Raises:
        DataError: the two did not classify the same reviews.
    """
    pairs = {"old": Pair(new.predictions, old.predictions)}
    return pairwise_tests(pairs, tuple(labels), seed=SEED, resamples=resamples)["old"]


def agreement(new: Arm, old: Arm) -> Interval:
    """Share of the test reviews to which both give the same label, whether it is right or not."""
    columns = ["review_id", "predicted"]
    both = new.predictions[columns].merge(old.predictions[columns], on="review_id", suffixes=("_new", "_old"))
    same = (both["predicted_new"] == both["predicted_old"]) & (both["predicted_new"] != INVALID)
    return proportion(int(same.sum()), len(both)).rounded()


def parity_gates(
    candidate: Candidate, old: OldModel, measured: Measured, config: Config, root: Path, *, progress: Progress = SILENT
) -> tuple[Gate, ...]:
    """The gates of a promotion with the old model as the champion, but for `git`: promotion asks for that.

    Args:
        candidate: the new model.
        old: the old model.
        measured: its scores.
        config: the project's configuration, with the limits.
        root: the project's folder.
        progress: receives messages and progress bars.

    Raises:
        ProviderError: the new model cannot be asked.
    """
    served = served_model(candidate, config.registered_name, progress=progress)
    own = own_gates(candidate, served, config, root, progress)
    return (*_against(candidate, old, measured, config), *(gate for gate in own if gate.name != LEFT_TO_PROMOTE))


def _against(candidate: Candidate, old: OldModel, measured: Measured, config: Config) -> list[Gate]:
    if measured.arm is None:
        asked = f"{old.title} can be asked about the test reviews, or its answers are known"
        return [Gate(name="old model", asked=asked, seen=f"no: {measured.why_not}", outcome="failed")]
    return gates.against_champion(
        candidate.measured.predictions,
        gates.Opponent(old.title, measured.arm.predictions),
        tuple(candidate.asked.config.data.labels),
        config.promotion,
        resamples=config.evaluation.resamples,
    )
