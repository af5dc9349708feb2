"""Arms on disk, loaded and compared."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.compare import Arm, _predictions, compare, load_arm
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics.significance import mcnemar
from tests.evaluation.comparison.conftest import CASCADE, N
from tests.support.arm_files import LABELS, write_arm


def test_the_comparison_holds_what_was_measured(comparison: Comparison) -> None:
    assert (comparison.reference, comparison.n, list(comparison.labels)) == ("zero_shot", N, LABELS)
    linear, zero_shot, finetuned = comparison.arms
    assert zero_shot.against_reference is None
    assert finetuned.accuracy.value == 0.75
    assert comparison.finetuned_against["linear"].verdict == "undecided"
    assert finetuned.hard_accuracy == finetuned.slices["hard=1"].accuracy.value == 1.0
    assert (linear.cost_per_1k, linear.latency_p95, linear.reviews_per_second) == (None, None, None)
    assert zero_shot.mlflow_run_id == "run_of_zero_shot"
    assert zero_shot.invalid == 10


def test_an_arm_is_tested_against_the_reference(comparison: Comparison) -> None:
    zero_shot, finetuned = comparison.arms[1:]
    test = finetuned.against_reference
    assert test is not None
    assert (test.only_this_right, test.only_other_right, test.verdict) == (50, 0, "better")
    assert test.difference.value == 0.25
    assert test.difference.low < 0.25 < test.difference.high
    assert test.mcnemar_p == round(mcnemar([True] * 50, [False] * 50).p, 6)
    assert test.mcnemar_p <= test.holm_p <= 2 * test.mcnemar_p
    assert set(test.per_label) == set(LABELS)
    assert test.f1_difference.value == pytest.approx(finetuned.f1 - zero_shot.f1, abs=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(order=st.permutations(range(N)))
def test_the_order_of_rows_does_not_matter(arms: list[Arm], order: list[int]) -> None:
    zero_shot, finetuned = arms[1:]
    shuffled = replace(finetuned, predictions=finetuned.predictions.iloc[order].reset_index(drop=True))
    usual, other = (
        compare([zero_shot, arm], reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)
        for arm in (finetuned, shuffled)
    )
    assert usual.arms == other.arms
    assert usual.finetuned_against == other.finetuned_against


def test_an_unusable_answer_is_an_error(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "zero_shot", [number % 10 != 0 for number in range(N)])
    assert arm.metrics.invalid == 20
    assert (arm.predictions["predicted"] == INVALID).sum() == 20
    assert arm.accuracy.value == 0.9


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "run.json").unlink(), "run.json is missing: run `dvc repro` to evaluate arm zero_shot"),
        (lambda f: (f / "per_label.csv").unlink(), "per_label.csv is missing: run `dvc repro` to evaluate arm zero_sh"),
        (lambda f: (f / "metrics.json").write_text("{"), "zero_shot/metrics.json: damaged"),
        (lambda f: (f / "metrics.json").write_text("{}"), "zero_shot/metrics.json: damaged .arm: Field required"),
        (lambda f: (f / "confidence.run.json").write_text("{}"), "zero_shot: damaged .KeyError"),
        (lambda f: (f / "predictions.csv").write_text("review_id,label,predicted\n"), "disagree"),
        (lambda f: shutil.copy(f.parent / "finetuned" / "predictions.csv", f), "disagree"),
    ],
)
def test_damaged_files_are_named(arms: list[Arm], tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(tmp_path / "zero_shot")
    with pytest.raises(DataError, match=message) as caught:
        load_arm(tmp_path / "zero_shot")
    assert "\n" not in str(caught.value)


def test_arms_of_different_tests_are_refused(arms: list[Arm], tmp_path: Path) -> None:
    reference = arms[1]
    others = {
        "different test files": write_arm(tmp_path, "other", [True] * N, test_sha256="xyz"),
        "different reviews": write_arm(tmp_path, "shorter", [True] * (N - 1)),
    }
    for message, other in others.items():
        with pytest.raises(DataError, match=f"arms zero_shot and {other.name} .* {message}"):
            compare([reference, other], reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)
    relabelled = replace(arms[2], per_label=arms[2].per_label.iloc[::-1])
    with pytest.raises(DataError, match="different label lists"):
        compare([reference, relabelled], reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)


def test_an_unknown_reference_names_the_arms(arms: list[Arm]) -> None:
    with pytest.raises(DataError, match=r"'few' is not one of: linear, zero_shot, finetuned; set evaluation.reference"):
        compare(arms, reference="few", seed=1, resamples=100, cascade=CASCADE)


@pytest.mark.parametrize(("place", "name"), [("first", "few"), ("first", "person"), ("second", "few")])
def test_an_unknown_arm_of_the_cascade_names_the_arms(arms: list[Arm], place: str, name: str) -> None:
    cascade = CASCADE.model_copy(update={place: name})
    with pytest.raises(DataError, match=f"'{name}' was not evaluated; it is not one of: linear, zero_shot, finetuned"):
        compare(arms, reference="zero_shot", seed=1, resamples=100, cascade=cascade)


def test_confidence_and_the_cascade_are_measured(comparison: Comparison) -> None:
    assert set(comparison.confidence) == {"linear", "zero_shot", "finetuned"}
    cascade = comparison.cascade
    assert cascade is not None
    assert (cascade.first, cascade.second) == ("zero_shot", "person")
    assert cascade.cascade_accuracy.value >= 0.9
    assert cascade.cost_per_1k == pytest.approx(0.02 + cascade.routed * 100)


def test_labels_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    """A second annotator's 4 would otherwise never be the label "4"."""
    lines = "review_id,label,predicted,label_second\n1,4,4,4\n2,True,4,True\n"
    (tmp_path / "predictions.csv").write_text(lines)
    (tmp_path / "confidence.run.json").write_text('{"confidence": []}')
    table = _predictions(tmp_path)
    assert (table["label"] == table["label_second"]).all()
