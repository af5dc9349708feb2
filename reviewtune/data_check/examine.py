"""Run all checks of `reviewtune check-data`: what can be known about labelled reviews before money is spent on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import Conflicts
from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.faults import fault_table
from reviewtune.data.reviews import sha256
from reviewtune.data_check import checks, label_errors, learning_curve, training_checks
from reviewtune.data_check.checks import CheckResult
from reviewtune.data_check.cross_validation import FoldedReviews, fold_reviews, probabilities
from reviewtune.data_check.facts import Facts, LabelError, LabelErrorFacts
from reviewtune.data_check.label_check import labels
from reviewtune.data_check.labelled_file import LabelledFile
from reviewtune.data_check.learning_curve import Curve
from reviewtune.data_check.split_check import splits
from reviewtune.errors import DataError

REFUSED = ("format", "labels", "conflicts", "splits")  # checks whose problems stop the pipeline
SIMILARITY = 0.9  # outside a project; inside, the split's similarity is used
SEED = 13
MIN_ROWS = 20  # with fewer reviews cross-validation shows nothing
SHOWN_ERRORS = 50
LABEL_ERRORS_TITLE = "Likely label errors"


@dataclass(frozen=True)
class DataCheck:
    """The result of the data check.

    Args:
        file: the checked file.
        results: one per check, in the order of the report.
        label_errors: the likely label errors, the least plausible label first.
    """

    file: LabelledFile
    results: tuple[CheckResult[Facts], ...]
    label_errors: tuple[LabelError, ...]

    @property
    def problems(self) -> list[CheckResult[Facts]]:
        return [result for result in self.results if result.level == "problem"]

    def as_json(self) -> dict[str, Any]:
        """The output of `check-data --json`."""
        return {
            "file": str(self.file.path),
            "sha256": sha256(self.file.path),
            "level": checks.worst(self.results),
            "checks": [result.as_json() for result in self.results],
        }


@dataclass(frozen=True)
class BaselineResults:
    """What the cross-validated linear baseline shows; without a curve, `reason` says why."""

    label_errors: tuple[LabelError, ...]
    result: CheckResult[Facts]
    curve: Curve | None = None
    reason: str = ""


def examine(
    file: LabelledFile,
    *,
    reports: Path,
    similarity: float = SIMILARITY,
    config: Config | None = None,
    frozen: Path | None = None,
    n_epochs: int = training_checks.AUTO_EPOCHS,
    finetuned: Curve | None = None,
    progress: Progress = SILENT,
) -> DataCheck:
    """Run every check.

    Args:
        file: the labelled reviews.
        reports: the folder with the reports of the last `dvc repro`; it may not exist.
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
        config: the pipeline's settings, to check what the splits suffice for; None: this is not checked.
        frozen: the project's data/frozen_splits.csv; None: no review has a frozen side.
        n_epochs: epochs of the job in `reports`.
        finetuned: the learning curve of the fine-tune, if it was measured.
        progress: receives a bar of three steps.
    """
    with progress.bar("checking", total=3) as step:
        file_results = _check_file(file, similarity, config.data.conflicts if config else "refuse")
        if config and file.kind != "jsonl":  # chat files are written after the split
            file_results.append(splits(file, config, frozen))
        step(1, note="cross-validation")
        baseline = _cross_validate(file, similarity)
        step(1, note="languages and personal data")
        curves = [curve for curve in (baseline.curve, finetuned) if curve]
        results = (
            *file_results,
            baseline.result,
            checks.language_mix(file),
            checks.personal(file),
            training_checks.too_little_data(curves, baseline.reason),
            training_checks.validation_loss(reports / "training_curve.csv", n_epochs),
            training_checks.worse_than_base(reports / "arms", seed=SEED),
        )
        step(1)
    return DataCheck(file, results, baseline.label_errors)


def refuse_unusable(check: DataCheck) -> None:
    """Refuse a file that the pipeline would refuse.

    Raises:
        DataError: with what it would refuse.
    """
    if refused := [result for result in check.problems if result.name in REFUSED]:
        findings = " ".join("; ".join(f"{result.title.lower()}: {result.says}" for result in refused).split())
        raise DataError(
            f"{check.file.path}: the pipeline would refuse this file: {findings}",
            details=fault_table(check.file.faults),
        )


def _check_file(file: LabelledFile, similarity: float, policy: Conflicts) -> list[CheckResult[Facts]]:
    return [
        checks.format_(file),
        checks.encoding(file),
        labels(file),
        checks.lengths(file),
        checks.duplicates(file, similarity),
        checks.conflicts(file, similarity, policy),
        checks.annotators(file, SEED),
    ]


def _cross_validate(file: LabelledFile, similarity: float) -> BaselineResults:
    try:
        reviews = _folded(file, similarity)
    except (DataError, ValueError) as error:
        do = "label more reviews, then check again"
        says = f"not searched: {error}"
        result = CheckResult("label_errors", LABEL_ERRORS_TITLE, "unknown", says, do, Facts())
        return BaselineResults((), result, reason=str(error))
    out_of_fold = probabilities(reviews, seed=SEED)
    table = file.table.iloc[reviews.kept].reset_index(drop=True)
    suspects = label_errors.suspects(reviews.labels, out_of_fold)
    errors = tuple(label_errors.label_errors(suspects, table, reviews.classes))
    accuracy = float((out_of_fold.argmax(axis=1) == reviews.labels).mean())
    return BaselineResults(errors, _label_error_result(errors, accuracy, len(table)), _curve(reviews))


def _folded(file: LabelledFile, similarity: float) -> FoldedReviews:
    if len(file.table) < MIN_ROWS:
        raise DataError(f"{counted(len(file.table), 'review')}, at least {MIN_ROWS} are needed")
    texts, labels = file.table["text"].tolist(), file.table["label"].tolist()
    return fold_reviews(texts, labels, similarity=similarity, seed=SEED)


def _curve(reviews: FoldedReviews) -> Curve:
    sizes, right = learning_curve.measure(reviews, seed=SEED)
    return learning_curve.judge("linear baseline", sizes, right, reviews.labels, reviews.groups, seed=SEED)


def _label_error_result(errors: tuple[LabelError, ...], accuracy: float, reviews: int) -> CheckResult[Facts]:
    facts = LabelErrorFacts(round(accuracy, 4), len(errors), reviews, errors[:SHOWN_ERRORS])
    says = (
        f"doubtful labels: {len(errors)} of {reviews}, by linear models that were not trained on them and agree with "
        f"{accuracy:.0%} of the labels"
    )
    if not errors:
        return CheckResult("label_errors", LABEL_ERRORS_TITLE, "fine", says, "", facts)
    do = "many of them are correct: read the list from the top, and stop when ten in a row are correct"
    return CheckResult("label_errors", LABEL_ERRORS_TITLE, "notice", says, do, facts)
