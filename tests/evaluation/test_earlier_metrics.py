"""Scores of earlier evaluations: our own files, other tools' names, and what must not be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from reviewtune.errors import DataError
from reviewtune.evaluation.earlier_metrics import Change, changes, read_earlier, refuse_other_test_set
from reviewtune.evaluation.metrics.classification import Average
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.evaluation.metrics_file import ArmMetrics

OURS = {"n": 193, "accuracy": {"value": 0.8, "low": 0.7, "high": 0.9}, "precision": 0.81, "recall": 0.8, "f1": 0.79}
NEW = ArmMetrics(
    arm="x", kind="prompt", model="m", test_sha256="t", n=10, correct=9, invalid=0, precision=0.9, recall=0.9, f1=0.75,
    accuracy=Interval(0.9, 0.8, 1.0), macro=Average(0.9, 0.9, 0.75),
)  # fmt: skip
PLAIN = {"accuracy": 0.8, "precision": 0.81, "recall": 0.8, "f1": 0.79}


def written(folder: Path, content: Any) -> Path:
    path = folder / "old.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        OURS,
        PLAIN,
        {"accuracy": 0.8, "precision_weighted": 0.81, "recall_weighted": 0.8, "f1_weighted": 0.79},
        {"accuracy": 80.0, "precision": 81.0, "recall": 80.0, "f1_score": 79.0},
        {"timestamp": "x", "metrics": PLAIN},
        {"model": "m", "overall": {"accuracy": 0.8, "precision_weighted": 0.81, "recall_weighted": 0.8, "f1": 0.79}},
    ],
)
def test_every_name_of_a_score_gives_the_same_table(tmp_path: Path, content: Any) -> None:
    assert changes(read_earlier(written(tmp_path, content)), NEW) == [
        Change("Accuracy", "80.0 %", "90.0 %", "+10.0 points"),
        Change("Precision", "81.0 %", "90.0 %", "+9.0 points"),
        Change("Recall", "80.0 %", "90.0 %", "+10.0 points"),
        Change("F1", "79.0 %", "75.0 %", "−4.0 points"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "old.json: not valid JSON"),
        ([1], "not a JSON object; --compare takes one with accuracy, precision, recall, f1"),
        (
            {"accuracy": 0.8, "recall": 0.8, "f1": 0.8},
            "no precision or precision_weighted; it has accuracy, recall, f1",
        ),
        ({**PLAIN, "f1": "good"}, "f1 is 'good', not a number"),
        ({**PLAIN, "f1": 1234}, "f1 is 1234, not a share between 0 and 1 or a percentage"),
    ],
)
def test_a_fault_is_reported_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_earlier(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_score_of_0_is_not_a_missing_score(tmp_path: Path) -> None:
    assert read_earlier(written(tmp_path, {**PLAIN, "f1": 0})).scores["f1"] == 0


@pytest.mark.parametrize(
    ("old", "message"),
    [({"test_sha256": "a" * 64}, "another test set"), ({"n": 100}, "100 reviews"), ({"total": 60}, "60 reviews")],
)
def test_figures_from_another_test_set_are_refused(tmp_path: Path, old: dict[str, Any], message: str) -> None:
    earlier = read_earlier(written(tmp_path, {**PLAIN, **old}))
    with pytest.raises(DataError, match=f"{message}.*--other-test-set"):
        refuse_other_test_set(earlier, n=193, test_sha256="b" * 64, file=Path("test.csv"))


def test_an_unknown_test_set_is_pointed_out_and_a_known_one_is_not(tmp_path: Path) -> None:
    known = read_earlier(written(tmp_path, {**OURS, "test_sha256": "b" * 64}))
    assert refuse_other_test_set(known, n=193, test_sha256="b" * 64, file=Path("test.csv")) is None
    unknown = read_earlier(written(tmp_path, {**PLAIN, "n": 193}))
    note = refuse_other_test_set(unknown, n=193, test_sha256="b" * 64, file=Path("test.csv"))
    assert "does not say what it was measured on" in str(note)
