"""Arms written to disk as evaluation.py writes them, compared, and shown."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from reviewtune.core.config import CascadeConfig
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison import compare as comparison_compare
from reviewtune.evaluation.comparison.break_even import economics
from reviewtune.evaluation.comparison.compare import Arm, compare, load_arm, render, to_json, to_markdown
from reviewtune.evaluation.comparison.findings import confidence_lines, cost_lines
from reviewtune.evaluation.metrics.classification import INVALID, as_json, per_label_table, score
from reviewtune.evaluation.metrics.significance import mcnemar, proportion

LABELS = ["delivery", "quality"]
N = 200
CASCADE = CascadeConfig(first="zero_shot", second="person", wanted_accuracy=0.9, person_usd=0.1)


def write_arm(root: Path, name: str, right: list[bool], kind: str = "prompt", **changes: Any) -> Arm:
    """An arm with these hits; a miss of every tenth review is unusable. `changes` go into metrics.json."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, hit in enumerate(right):
        label, wrong = LABELS[number % 2], LABELS[1 - number % 2]
        predicted = label if hit else INVALID if number % 10 == 0 else wrong
        rows.append(
            {
                "review_id": f"{number:04}",
                "label": label,
                "predicted": predicted,
                "label_second": label,
                "hard": int(number % 4 == 0),
            }
        )
    table = pd.DataFrame(rows)
    scores = score(table["label"].tolist(), table["predicted"].tolist(), labels=LABELS)
    hard = table[table["hard"] == 1]
    hits = int((hard["label"] == hard["predicted"]).sum())
    metrics = {
        "arm": name, "kind": kind, "model": f"model|{name}", **as_json(scores), "test_sha256": "abc",
        "slices": {"hard=1": {"n": len(hard), "accuracy": proportion(hits, len(hard)).as_json()}},
        "cost_per_1k": None if kind == "linear" else 0.02, "cost_per_1k_at_gpt_4o_mini": None, **changes,
    }  # fmt: skip
    speed = {} if kind == "linear" else {"latency_p50": 0.1, "latency_p95": 0.25, "reviews_per_second": 12.0}
    confidence = [round(0.99 - 0.004 * number, 3) for number in range(len(table))]
    (folder / "confidence.run.json").write_text(json.dumps({"confidence": confidence}))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"mlflow_run_id": f"run_of_{name}", **speed}))
    table.to_csv(folder / "predictions.csv", index=False)
    per_label_table(scores).to_csv(folder / "per_label.csv", index=False)
    return load_arm(folder)


@pytest.fixture
def arms(tmp_path: Path) -> list[Arm]:
    """zero_shot 50 %, finetuned 75 % (right wherever zero_shot is), linear 74 %."""
    return [
        write_arm(tmp_path, "linear", [number % 100 < 74 for number in range(N)], kind="linear"),
        write_arm(tmp_path, "zero_shot", [number % 4 < 2 for number in range(N)]),
        write_arm(tmp_path, "finetuned", [number % 4 < 3 for number in range(N)], kind="finetuned", cost_per_1k=0.01),
    ]


@pytest.fixture
def report(arms: list[Arm]) -> dict[str, Any]:
    made = to_json(compare(arms, reference="zero_shot", seed=1, resamples=1000, cascade=CASCADE))
    return dict(json.loads(json.dumps(made)))  # as read from comparison.json


def test_the_report_holds_what_was_measured(report: dict[str, Any]) -> None:
    assert (report["reference"], report["n"], report["labels"]) == ("zero_shot", N, LABELS)
    linear, zero_shot, finetuned = report["arms"]
    assert zero_shot["against_reference"] is None
    assert finetuned["accuracy"]["value"] == 0.75
    duel = finetuned["against_reference"]
    assert duel["difference"]["value"] == 0.25
    assert (duel["only_this_right"], duel["only_reference_right"], duel["verdict"]) == (50, 0, "better")
    assert duel["mcnemar_p"] == round(mcnemar([True] * 50, [False] * 50).p, 6)
    assert duel["difference"]["low"] < 0.25 < duel["difference"]["high"]
    assert report["finetuned_against"]["linear"]["verdict"] == "undecided"
    assert duel["mcnemar_p"] <= duel["holm_p"] <= 2 * duel["mcnemar_p"]
    assert set(duel["per_label"]) == set(LABELS)
    assert duel["f1_difference"]["value"] == pytest.approx(finetuned["f1"] - zero_shot["f1"], abs=1e-6)
    assert finetuned["hard_accuracy"] == finetuned["slices"]["hard=1"]["accuracy"]["value"] == 1.0
    assert (linear["cost_per_1k"], linear["latency_p95"], linear["reviews_per_second"]) == (None, None, None)
    assert zero_shot["mlflow_run_id"] == "run_of_zero_shot"
    assert zero_shot["invalid"] == 10


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(order=st.permutations(range(N)))
def test_the_order_of_rows_means_nothing(arms: list[Arm], order: list[int]) -> None:
    one, two = arms[1:]
    shuffled = Arm(**{**vars(two), "predictions": two.predictions.iloc[order].reset_index(drop=True)})
    usual, other = (
        compare([one, arm], reference="zero_shot", seed=1, resamples=100, cascade=CASCADE) for arm in (two, shuffled)
    )
    assert usual.against_reference == other.against_reference


def test_an_unusable_answer_is_an_error(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "zero_shot", [number % 10 != 0 for number in range(N)])
    assert arm.metrics["invalid"] == 20
    assert (arm.predictions["predicted"] == INVALID).sum() == 20
    assert arm.accuracy.value == 0.9


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "run.json").unlink(), "run.json is missing: run `dvc repro` to evaluate arm zero_shot"),
        (lambda f: (f / "metrics.json").write_text("{"), "zero_shot: damaged"),
        (lambda f: (f / "metrics.json").write_text("{}"), "zero_shot: damaged .KeyError"),
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
    relabelled = Arm(**{**vars(arms[2]), "per_label": arms[2].per_label.iloc[::-1]})
    with pytest.raises(DataError, match="different label lists"):
        compare([reference, relabelled], reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)


def test_an_unknown_reference_names_the_arms(arms: list[Arm]) -> None:
    with pytest.raises(DataError, match=r"'few' is not one of: linear, zero_shot, finetuned; set evaluation.reference"):
        compare(arms, reference="few", seed=1, resamples=100, cascade=CASCADE)


def test_confidence_and_the_cascade_are_in_the_report(report: dict[str, Any]) -> None:
    assert set(report["confidence"]) == {"linear", "zero_shot", "finetuned"}
    cascade = report["cascade"]
    assert (cascade["first"], cascade["second"]) == ("zero_shot", "person")
    assert cascade["cascade_accuracy"]["value"] >= 0.9
    (doubt,) = [line for line in confidence_lines(report) if "aimed at 90.0 %" in line]
    for threshold in report["confidence"]["finetuned"]["abstention"]["thresholds"]:
        assert f"{threshold:.2f}" in doubt
    assert cascade["cost_per_1k"] == pytest.approx(0.02 + cascade["routed"] * 100)
    text = to_markdown(report)
    assert "finetuned: expected calibration error" in text
    assert "zero_shot, else person for" in text


def test_markdown_says_it_in_words(report: dict[str, Any]) -> None:
    text = to_markdown(report)
    assert "**finetuned is better than zero_shot**: 75.0 % right against 50.0 %, +25.0 points (95 % interval +" in text
    assert (
        "exact McNemar with Holm's correction p < 0.001); only finetuned is right on 50 reviews, only zero_shot on 0."
        in text
    )
    assert "**undecided between finetuned and linear**" in text
    assert "| Metric | Base (zero_shot) | Fine-tuned | Improvement |" in text
    assert "| Accuracy | 50.0 % | 75.0 % | +25.0 points |" in text
    assert "| Accuracy, hard=1 (50 reviews) | 100.0 % | 100.0 % | +0.0 points |" in text
    assert "| Cost per 1,000 | $0.0200 | $0.0100 | −50 % |" in text
    assert "| Reviews per second | 12.0 | 12.0 | 1.0 x |" in text
    assert "| linear | model\\|linear |" in text
    assert "Unusable answers, counted as errors: linear 4, zero_shot 10." in text
    assert "attributes.run_id IN ('run_of_linear', 'run_of_zero_shot', 'run_of_finetuned')" in text


def test_a_worse_model_is_called_worse(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, "zero_shot", [number % 4 < 3 for number in range(N)]),
        write_arm(tmp_path, "finetuned", [number % 4 < 2 for number in range(N)], kind="finetuned"),
    ]
    text = to_markdown(to_json(compare(arms, reference="zero_shot", seed=1, resamples=1000, cascade=CASCADE)))
    assert "**finetuned is worse than zero_shot**: 50.0 % right against 75.0 %, −25.0 points" in text


def test_without_a_finetuned_arm_the_arms_meet_the_reference(arms: list[Arm]) -> None:
    report = to_json(compare(arms[:2], reference="zero_shot", seed=1, resamples=1000, cascade=CASCADE))
    text = to_markdown(report)
    assert "**linear is better than zero_shot**" in text
    assert "No fine-tuned arm takes part." in text
    render(report, Console(width=100, record=True, quiet=True))


def test_the_terminal_needs_100_columns(report: dict[str, Any]) -> None:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        render(report, console)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.lstrip().startswith("zero_shot"))
    assert "50.0 [43.1, 56.9]" in row
    assert "reference" in row
    assert "…" not in capture.get()


def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_figure(report: dict[str, Any]) -> None:
    console = Console(width=72)
    with console.capture() as capture:
        render(report, console)
    table = capture.get().split("all arms")[1].split("right against")[0]
    assert "…" not in table
    assert " per s" not in table
    assert "50.0 [43.1, 56.9]" in table


def test_tables_for_plots(arms: list[Arm]) -> None:
    made = compare(arms, reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)
    table = comparison_compare.arm_table(made)
    assert table["arm"].tolist() == ["linear", "zero_shot", "finetuned"]
    assert table["accuracy"].tolist() == [0.74, 0.5, 0.75]
    assert (table["low"] < table["accuracy"]).all()
    assert list(comparison_compare.label_table(made).columns[:2]) == ["arm", "label"]
    assert len(comparison_compare.label_table(made)) == 3 * len(LABELS)


def test_pictures(arms: list[Arm]) -> None:
    made = compare(arms, reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)
    found = comparison_compare.pictures(made)
    assert set(found) == {"accuracy.png", "accuracy_against_cost.png", "calibration.png", "f1_per_label.png"}
    assert all(png.startswith(b"\x89PNG") for png in found.values())


def test_written_twice_is_the_same_bytes(arms: list[Arm], tmp_path: Path) -> None:
    made = compare(arms, reference="zero_shot", seed=1, resamples=100, cascade=CASCADE)
    first, second = (comparison_compare.write(made, folder) for folder in (tmp_path / "one", tmp_path / "two"))
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert json.loads(first[0].read_text(encoding="utf-8")) == json.loads(json.dumps(to_json(made)))


def test_money_and_time_are_told_where_they_are_known(tmp_path: Path) -> None:
    """Training of 6 USD against 0.02 - 0.014 USD saved on 1,000 reviews: paid back after a million."""
    half, most = [True] * 100 + [False] * 100, [True] * 150 + [False] * 50
    arms = [
        write_arm(tmp_path, "zero_shot", half),
        write_arm(tmp_path, "finetuned", most, kind="finetuned", cost_per_1k=0.014, training_usd=6.0),
    ]
    report = to_json(compare(arms, reference="zero_shot", seed=1, resamples=200, cascade=CASCADE))
    written, console = to_markdown(report), Console(width=80, record=True, file=StringIO())
    render(report, console)
    printed = console.export_text()
    assert "| zero_shot | 0.10 s | 0.25 s | – | 12.0 |" in written
    assert "p99" in printed
    assert max(map(len, printed.splitlines())) <= 80
    for text in (written, " ".join(printed.split())):
        assert "zero_shot (the best prompt arm) $0.0200, finetuned $0.0140" in text
        assert "with its training ($6.00) spread over 1,000 reviews $6.01" in text
        assert "costs no more than zero_shot from 1,000,000 reviews on" in text


@pytest.mark.parametrize(
    ("saved", "told"), [(-0.001, "never costs less than zero_shot"), (0.006, "from 1,000,000 reviews on")]
)
def test_a_fine_tune_that_never_pays_is_called_so(saved: float, told: str) -> None:
    money = {"cost_per_1k": 0.02 - saved, "training_usd": 6.0}
    arms = [
        {"arm": "zero_shot", "kind": "prompt", "accuracy": {"value": 0.5}, "cost_per_1k": 0.02},
        {"arm": "finetuned", "kind": "finetuned", "accuracy": {"value": 0.5}, **money},
    ]
    assert told in cost_lines({"arms": arms, "economics": economics(arms)})[-1]
