"""metrics.json and run.json: their bytes, files of earlier releases, and files that are damaged."""

import json
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.config.data import DataConfig
from reviewtune.errors import DataError
from reviewtune.evaluation import results, run_file
from reviewtune.evaluation.evaluate import evaluate_baseline
from reviewtune.evaluation.linear_baseline import Kind
from reviewtune.evaluation.metrics_file import METRICS_FILE, SUMMARY_FILE, read_metrics, write_metrics
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.run_file import RUN_FILE, ArmRun, read_run
from reviewtune.evaluation.subject import BaselineSubject
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import open_run

FILES = Path(__file__).parent / "files"
OLD_ARMS = sorted((FILES / "before_version").iterdir())
LABELS = ["late", "broken", "wrong", "fine"]
KINDS: tuple[Kind, ...] = ("linear", "majority")


def reviews(n: int, word: str) -> pd.DataFrame:
    rows = [
        {
            "review_id": f"r{i}",
            "text": f"{word} {i % 7} {LABELS[i % 4] if i % 3 else word}" + " again" * (i % 40),
            "label": LABELS[(i + i // 12) % 4],
            "hard": str(i % 2),
        }
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def data_of(config: Config) -> DataConfig:
    return config.data.model_copy(update={"labels": {label: label for label in LABELS}, "slices": ("hard",)})


def evaluated(config: Config, kind: Kind) -> Evaluation:
    subject = BaselineSubject(arm=kind, kind=kind, seed=1)
    train, test = reviews(40, "train"), reviews(30, "test")
    return evaluate_baseline(subject, train, test, data_of(config), test_sha256="t")


def with_version(text: str) -> str:
    return text.replace("{\n", '{\n  "version": 1,\n', 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_release_before_the_version(config: Config, tmp_path: Path, kind: Kind) -> None:
    """The expected files were written by that release for the same reviews."""
    write_metrics(evaluated(config, kind).metrics, tmp_path)
    expected = with_version((FILES / f"expected_{kind}.json").read_text())
    assert (tmp_path / METRICS_FILE).read_text() == expected


def test_the_summary_holds_the_main_numbers_of_the_metrics(config: Config, tmp_path: Path) -> None:
    result = evaluated(config, "linear")
    results.write_tables(result, tmp_path)
    assert json.loads((tmp_path / SUMMARY_FILE).read_text()) == {
        "version": 1,
        "accuracy": result.metrics.accuracy.value,
        "macro_f1": result.metrics.macro.f1,
        "hard_accuracy": result.metrics.hard_accuracy,
        "n": 30,
        "unusable": 0,
        "cost_per_1k": result.metrics.cost_per_1k,
    }


@pytest.mark.parametrize("arm", OLD_ARMS, ids=lambda arm: arm.name)
def test_a_file_without_a_version_is_read_and_written_as_it_was(arm: Path, tmp_path: Path) -> None:
    assert len(OLD_ARMS) == 2
    write_metrics(read_metrics(arm), tmp_path)
    run_file.write_run(read_run(arm), tmp_path)
    assert (tmp_path / METRICS_FILE).read_text() == with_version((arm / METRICS_FILE).read_text())
    old, new = (json.loads((folder / RUN_FILE).read_text()) for folder in (arm, tmp_path))
    assert new == {"version": 1, **old}


def test_a_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    """It had no bootstrap intervals, and nothing about log-probabilities."""
    content = json.loads((OLD_ARMS[0] / METRICS_FILE).read_text())
    later = ("intervals", "decided_by", "accuracy_as_answered", "accuracy_prior_corrected", "trained_tokens",
             "training_usd", "training_usd_at_gpt_4o_mini")  # fmt: skip
    first = {name: value for name, value in content.items() if name not in later}
    (tmp_path / METRICS_FILE).write_text(json.dumps(first))
    write_metrics(read_metrics(tmp_path), tmp_path)
    assert json.loads((tmp_path / METRICS_FILE).read_text()) == {"version": 1, **first}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "the file has version 2, this release reads version 1; upgrade reviewtune"),
        ({"acuracy": 0.5}, "acuracy: Extra inputs are not permitted"),
        ({"n": "many"}, "n: Input should be a valid integer"),
        ({"accuracy": {"value": 0.5, "low": 0.4}}, "accuracy.high: Field required"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = json.loads((OLD_ARMS[0] / METRICS_FILE).read_text())
    (tmp_path / METRICS_FILE).write_text(json.dumps({**content, **change}))
    with pytest.raises(DataError, match="run `dvc repro --force` on its stage") as caught:
        read_metrics(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_reported_with_its_arm(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"zero_shot/run.json is missing: run `dvc repro` to evaluate arm zero_shot"):
        read_run(tmp_path / "zero_shot")


def test_a_run_holds_what_was_set(tmp_path: Path) -> None:
    """A batch has no latencies, which are null; a baseline has no requests, so the file does not mention them."""
    run_file.write_run(ArmRun(latency_p50=None, wall_seconds=1.5, times="recorded"), tmp_path)
    content = json.loads((tmp_path / RUN_FILE).read_text())
    assert content == {"version": 1, "latency_p50": None, "wall_seconds": 1.5, "times": "recorded"}
    assert read_run(tmp_path).numbers == {"wall_seconds": 1.5}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from MLflow's use of SQLAlchemy
def test_the_mlflow_run_gets_the_numbers_tags_and_files(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    result, folder, tracking = evaluated(config, "linear"), Path("linear"), TrackingConfig(experiment="x", uri=None)
    with open_run(tracking, name="linear", kind="evaluation", tags={}) as run:
        results.write(result, folder)
        results.log(run, result, folder)
        results.write_run(result, folder, run.id)
    assert read_run(folder).mlflow_run_id == run.id
    (record,) = find_runs(tracking, "tags.arm = 'linear'")
    scores = ("accuracy", "accuracy_low", "accuracy_high", "precision", "recall", "f1", "macro_f1", "hard_accuracy")
    counts = ("n", "invalid", "prompt_tokens", "completion_tokens", "cost_per_1k")
    times = ("wall_seconds", "reviews_per_second", "calibration_error")
    assert set(record.metrics) == {*scores, *counts, *times, *(f"f1.{label}" for label in LABELS)}
    assert record.metrics["accuracy"] == result.metrics.accuracy.value
    assert record.metrics["macro_f1"] == result.metrics.macro.f1
    assert (record.tags["arm_kind"], record.tags["model"]) == ("linear", "tfidf+logistic-regression")
