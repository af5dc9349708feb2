"""The lineage of a run, and whether running it again gives the same result."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from reviewtune.commands import reproduce as commands_reproduce
from reviewtune.commands.lineage import picture, to_text, trace
from reviewtune.commands.reproduce import to_text as report
from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import DataError, TrackingError
from reviewtune.tracking import provenance, queries
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking.runs import RunRecord

SETTINGS = TrackingConfig(experiment="reviews", uri=None)
DATA = {"data": "reviews_en", "data_sha256": "d" * 64, "test_sha256": "e" * 64}
TRAIN = {"train_sha256": "a" * 64, "valid_sha256": "7" * 64}
MODEL = {"model": "ft:tiny:local:reviews:1", "training_sha256": "c" * 64, "prompt_fingerprint": "f" * 16}


def run(number: int, kind: str, tags: Mapping[str, str], accuracy: float | None = None) -> RunRecord:
    metrics = {} if accuracy is None else {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": 0.9}
    return RunRecord(f"{number:032x}", f"run {number}", "FINISHED", {}, metrics, {"kind": kind, **tags}, float(number))


JOB = {"job_id": "ftjob-1", "base_model": "tiny", "git_revision": "9" * 40}
TUNED = run(1, "finetune", {**DATA, **TRAIN, **MODEL, **JOB})
TESTED = run(2, "evaluation", {**DATA, **MODEL, **JOB, "arm": "finetuned", "arm_kind": "finetuned"}, 0.8)
AGAIN = run(3, "evaluation", {**DATA, **MODEL, **JOB, "arm": "finetuned", "arm_kind": "finetuned"}, 0.7)
PROMPT = run(
    4, "evaluation", {**DATA, **TRAIN, "model": "tiny", "prompt_fingerprint": "b" * 16, "arm_kind": "prompt"}, 0.3
)
OTHER = run(5, "evaluation", {**DATA, "model": "tiny", "prompt_fingerprint": "0" * 16, "arm_kind": "prompt"}, 0.2)
RUNS = [OTHER, PROMPT, AGAIN, TESTED, TUNED]


def test_lineage_goes_from_the_data_to_every_evaluation_of_the_model() -> None:
    text = to_text(trace(TESTED, RUNS))
    order = [
        "data: reviews_en",
        "splits: train aaaaaaaaaaaa, valid 777777777777, test eeee",
        "chat files: training cccc",
        "job: ftjob-1",
        "model: ft:tiny",
    ]
    assert sorted(order, key=text.index) == order
    assert "run 2, accuracy 0.800 (0.700 to 0.900)" in text
    assert text.count("<- this run") == 1
    assert "run 3, accuracy 0.700" in text
    assert "run 4" not in text


def test_a_job_of_a_sweep_that_did_not_win_is_traced_and_reproduced_without_a_test_score() -> None:
    """It was asked about the validation split only, so its model is what can be compared."""
    tags = {**DATA, **TRAIN, **MODEL, **JOB, "arm": "finetuned", "arm_kind": "finetuned"}
    scores = {"validation_accuracy": 0.75, "validation_accuracy_low": 0.66, "validation_accuracy_high": 0.82}
    job = replace(run(6, "job", tags), metrics=scores)
    text = to_text(trace(job, [job]))
    assert "run 6, accuracy 0.750 (0.660 to 0.820) on valid 777777777777, run" in text
    assert commands_reproduce._target(job) == ("finetune", commands_reproduce.MODEL_FILES)
    winner = replace(job, metrics={**scores, "accuracy": 0.8})
    assert "accuracy 0.800 on test eeeeeeeeeeee, accuracy 0.750 (0.660" in to_text(trace(winner, [winner]))
    assert commands_reproduce._target(winner)[0] == "evaluate"
    assert picture(trace(winner, [winner])).startswith(b"\x89PNG")


def test_a_fine_tune_and_its_evaluation_have_the_same_descent() -> None:
    first, second = (to_text(trace(run, RUNS)).replace("  <- this run", "") for run in (TUNED, TESTED))
    assert first == second


def test_a_prompt_arm_has_no_job_and_no_kin() -> None:
    text = to_text(trace(PROMPT, RUNS))
    assert "job:" not in text
    assert "prompt: prompt bbbb" in text
    assert "run 5" not in text


def test_the_picture_is_a_png_and_equal_for_equal_runs() -> None:
    first = picture(trace(TESTED, RUNS))
    assert first.startswith(b"\x89PNG")
    assert first == picture(trace(TESTED, RUNS))


def test_the_model_of_an_epoch_is_reproduced_by_its_own_stage() -> None:
    tags = {"git_revision": "9" * 40, "arm": "checkpoint_2", "arm_kind": "checkpoint"}
    stage, files = commands_reproduce._target(run(9, "evaluation", tags))
    assert stage == "checkpoint@2"
    assert Path("reports/arms/checkpoint_2/predictions.csv") in files.values()


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
def test_a_run_without_data_of_its_own_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match="has no data set; choose a fine-tune"):
        trace(run(9, kind, {}), RUNS)
    with pytest.raises(DataError, match=f"is a {kind}: choose a fine-tune"):
        commands_reproduce._target(run(9, kind, {"git_revision": "9" * 40}))


def files_of(folder: Path, predicted: list[str], model: str = "m", key: str = "k") -> Path:
    """Write the files of a run, with one answer per review."""
    (folder / "models").mkdir(parents=True)
    (folder / "reports/arms/finetuned").mkdir(parents=True)
    labels = ["a"] * len(predicted)
    table = pd.DataFrame(
        {"review_id": [f"r{i}" for i in range(len(predicted))], "label": labels, "predicted": predicted}
    )
    table.to_csv(folder / "reports/arms/finetuned/predictions.csv", index=False)
    (folder / "reports/arms/finetuned/metrics.json").write_text(str(predicted.count("a")))
    record = {"model": model, "run_key": key, "training_sha256": "c", "prompt_fingerprint": "f"}
    (folder / "models/finetuned.json").write_text(json.dumps(record))
    (folder / "reports/training_curve.csv").write_text("step,train_loss\n1,2.0\n")
    return folder


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """A job's run in a real store, of ten reviews with nine right."""
    stages = ", ".join(f"{stage}: {{deps: []}}" for stage in provenance.STAGES)
    (tmp_path / "dvc.yaml").write_text(f"stages: {{{stages}}}")
    monkeypatch.chdir(tmp_path)
    then = files_of(tmp_path / "then", ["a"] * 9 + ["b"])
    tags = {"git_revision": "9" * 40, "training_sha256": "c", "prompt_fingerprint": "f", "model": "m"}
    with tracking_runs.open_run(SETTINGS, name="job", kind="job", tags={**tags, "arm": "finetuned"}) as open_run:
        for path in sorted(then.rglob("*.*")):
            open_run.artifact(path)
    return queries.find_run(SETTINGS, open_run.id[:8])


def compared(stored: RunRecord, tree: Path, tolerance: float = 0.1) -> commands_reproduce.Reproduction:
    (tree / "dvc.yaml").write_text(Path("dvc.yaml").read_text())
    return commands_reproduce._compare(stored, SETTINGS, tree, commands_reproduce._target(stored)[1], tolerance)


def test_equal_files_are_identical_whatever_the_address_of_the_provider(stored: RunRecord, tmp_path: Path) -> None:
    reproduction = compared(stored, files_of(tmp_path / "now", ["a"] * 9 + ["b"], key="another"))
    assert reproduction.outcome == "identical"
    assert reproduction.changed_predictions == (0, 10)
    assert reproduction.reasons == ()


def test_one_other_answer_is_within_tolerance(stored: RunRecord, tmp_path: Path) -> None:
    reproduction = compared(stored, files_of(tmp_path / "now", ["a"] * 8 + ["b"] * 2), tolerance=0.1001)
    assert reproduction.outcome == "within tolerance"
    assert "accuracy 0.9000 then, 0.8000 now; 1 of 10 predictions changed" in report(reproduction)


def test_a_difference_of_exactly_the_tolerance_is_accepted(stored: RunRecord, tmp_path: Path) -> None:
    """In the computer 0.9 - 0.7 is a little more than 0.2."""
    reproduction = compared(stored, files_of(tmp_path / "now", ["a"] * 7 + ["b"] * 3), tolerance=0.2)
    assert reproduction.outcome == "within tolerance"


def test_more_than_that_is_different_and_the_report_says_why(stored: RunRecord, tmp_path: Path) -> None:
    reproduction = compared(stored, files_of(tmp_path / "now", ["a"] * 5 + ["b"] * 5, model="another"))
    assert reproduction.outcome == "different"
    assert "why: model: m then, another now" in report(reproduction)
    assert "predictions.csv: differs" in report(reproduction)
    assert "training_curve.csv: equal to the byte" in report(reproduction)


def test_a_revision_that_is_not_here_is_one_line(stored: RunRecord) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    with (
        pytest.raises(DataError, match=r"revision 999999999999 of run .* is not in this repository"),
        commands_reproduce._worktree(stored),
    ):
        pass


def test_an_unknown_run_is_one_line(stored: RunRecord) -> None:
    with pytest.raises(TrackingError, match="run 'zzz': no run"):
        queries.find_run(SETTINGS, "zzz")


@pytest.mark.parametrize("since", [0.0, 3600.0])
def test_only_the_server_of_the_temporary_account_is_ended(tmp_path: Path, since: float) -> None:
    """Its process id may belong to a process that was started later."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        started = psutil.Process(process.pid).create_time()
        announced = {"pid": process.pid, "create_time": started - since, "base_url": "http://127.0.0.1:9/v1"}
        write_json(announced, tmp_path / "data" / "server.json")
        commands_reproduce._end_server(tmp_path)
        assert (process.poll() is None) == bool(since)
        process.kill()
