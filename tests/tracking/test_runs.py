"""Runs in a real store, read back through MLflow itself; processes that die while they write."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.errors import TrackingError
from reviewtune.tracking import queries
from reviewtune.tracking.runs import RunKey
from tests.support.tracking import SETTINGS, open_run, stored

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


def in_child(task: Callable[..., None], *args: object) -> int:
    """Run the task in a separate process; returns its exit code."""
    child = FORK.Process(target=task, args=args)
    child.start()
    child.join(60)
    return child.exitcode if child.exitcode is not None else 99


def test_everything_that_is_logged_can_be_read_back(moved_project: Path) -> None:
    frame = pd.DataFrame({"text": ["배송이 늦어요", "ok"], "n": [1, 2]})
    curve = pd.DataFrame({"step": range(1, 2501), "train_loss": 1.5, "valid_loss": [math.nan] * 2499 + [0.25]})
    with open_run(tags={"arm": "finetuned", "nothing": None}) as run:
        run.params({"training": {"n_epochs": 3, "labels": ["배송", "b"]}, "seed": None, "path": Path("x")})
        run.metrics({"accuracy": {"value": 0.9, "low": None}, "loss": math.nan}, step=2)
        run.series(curve, "step")
        run.artifact(moved_project / "dvc.yaml", "files")
        run.text("grüße", "notes/hello.txt")
        run.json({"label": "배송"}, "answer.json")
        run.table(frame, "predictions.json")
        run.dataset(frame, name="test", digest="0123456789" * 6, context="testing")
    client = stored()
    back = client.get_run(run.id)
    assert back.info.status == "FINISHED"
    assert back.data.params == {
        "training.n_epochs": "3", "training.labels": '["배송", "b"]', "seed": "null", "path": '"x"'
    }  # fmt: skip
    assert back.data.metrics == {"accuracy.value": 0.9, "train_loss": 1.5, "valid_loss": 0.25}
    assert [point.step for point in client.get_metric_history(run.id, "train_loss")] == list(range(1, 2501))
    assert [point.step for point in client.get_metric_history(run.id, "valid_loss")] == [2500]
    assert back.data.tags["arm"] == "finetuned"
    assert "nothing" not in back.data.tags
    inputs = back.inputs.dataset_inputs[0]
    assert (inputs.dataset.name, inputs.dataset.digest) == ("test", "012345678901234567890123456789012345")
    assert inputs.tags[0].value == "testing"
    artifacts = moved_project / "mlruns" / back.info.experiment_id / run.id / "artifacts"
    assert {path.name for path in artifacts.iterdir()} == {"files", "notes", "answer.json", "predictions.json"}
    assert (artifacts / "notes" / "hello.txt").read_text(encoding="utf-8") == "grüße"
    assert "배송이 늦어요" in (artifacts / "predictions.json").read_text(encoding="utf-8")
    assert '{"path": "predictions.json", "type": "table"}' in back.data.tags["mlflow.loggedArtifacts"]
    assert pd.read_json(artifacts / "predictions.json", orient="split").equals(frame)


def test_every_run_names_its_commit_stage_and_python_version(
    moved_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "evaluate")
    monkeypatch.setenv("DVC_EXP_NAME", "wobbly-stone")
    subprocess.run(["git", "init", "-q"], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with open_run(kind="finetune", parent="f" * 32) as run:
        pass
    tags = stored().get_run(run.id).data.tags
    assert tags["git_revision"] == tags["mlflow.source.git.commit"] == revision
    assert (tags["DVC_STAGE"], tags["DVC_EXP_NAME"], tags["kind"]) == ("evaluate", "wobbly-stone", "finetune")
    assert tags["mlflow.parentRunId"] == "f" * 32
    assert tags["python_version"] == sys.version.split()[0]


def test_names_and_values_that_mlflow_refuses_are_shortened_or_escaped(moved_project: Path) -> None:
    with open_run() as run:
        run.params({"a=b": 1, "x": {"//y": 2}, "n" * 300: 3, "long": "z" * 9000})
    params = stored().get_run(run.id).data.params
    assert (params["a-3db"], params["x.-2f-2fy"]) == ("1", "2")
    assert sorted(map(len, params)) == [4, 5, 9, 217]
    assert len(params["long"]) == 6000
    assert "(9000 characters, sha256 " in params["long"]


def test_text_is_not_accepted_as_a_metric(moved_project: Path) -> None:
    with pytest.raises(TypeError, match=r"metric a\.b: '0.5' is not a number"), open_run() as run:
        run.metrics({"a": {"b": "0.5"}})


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("boom"), "FAILED", "ValueError: boom"),
        (SystemExit("bad"), "FAILED", "SystemExit: bad"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ],
)
def test_a_failure_is_kept_and_passed_on(moved_project: Path, error: BaseException, status: str, message: str) -> None:
    with pytest.raises(type(error)), open_run() as run:
        raise error
    back = stored().get_run(run.id)
    assert (back.info.status, back.data.tags["error"]) == (status, message)
    assert back.info.end_time


def killed(key: str) -> None:
    with open_run(run_key=RunKey(key)) as run:
        run.params({"seed": 1})
        run.series(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0]}), "step")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_is_continued(moved_project: Path) -> None:
    key = "sweep prompt='a b' \"c\" `d`"  # no filter can hold it
    assert in_child(killed, key) == -signal.SIGKILL
    (left,) = queries.find_runs(SETTINGS, "attributes.status = 'RUNNING'")
    with open_run(run_key=RunKey(key)) as run:
        run.params({"seed": 1})
        run.series(pd.DataFrame({"step": [1, 2, 3], "loss": [2.0, 1.0, 0.5]}), "step")
        with open_run(run_key=RunKey(key)) as other:
            assert other.id != run.id  # a live process keeps its run
    assert run.id == left.id
    assert stored().get_run(run.id).info.status == "FINISHED"
    assert [point.value for point in stored().get_metric_history(run.id, "loss")] == [2.0, 1.0, 0.5]
    with open_run(run_key=RunKey(key)) as third:
        assert third.id not in (run.id, other.id)  # a finished run is not continued


def test_what_is_logged_together_is_written_at_the_end(moved_project: Path) -> None:
    with open_run() as run:
        with run.together():
            run.params({f"p{number}": number for number in range(250)})
            with run.together():
                run.metrics({"accuracy": 0.5})
                run.series(pd.DataFrame({"step": range(2000), "loss": 1.0}), "step")
            run.tags({"arm": "zero_shot"})
            run.dataset(pd.DataFrame({"n": [1]}), name="test", digest="d", context="testing")
            before = stored().get_run(run.id)
        run.metrics({"f1": 0.5})
        after = stored().get_run(run.id)
    assert (before.data.params, before.data.metrics, before.inputs.dataset_inputs) == ({}, {}, [])
    assert after.data.params == {f"p{number}": str(number) for number in range(250)}
    assert after.data.metrics == {"accuracy": 0.5, "loss": 1.0, "f1": 0.5}
    assert after.data.tags["arm"] == "zero_shot"
    assert len(stored().get_metric_history(run.id, "loss")) == 2000
    assert len(after.inputs.dataset_inputs) == 1


def test_what_was_logged_before_a_failure_is_kept(moved_project: Path) -> None:
    with suppress(TypeError), open_run() as run, run.together():
        run.metrics({"accuracy": 0.5})
        run.metrics({"f1": "no number"})
    back = stored().get_run(run.id)
    assert (back.info.status, back.data.metrics) == ("FAILED", {"accuracy": 0.5})


def name_new_datasets(barrier: Any, names: list[str]) -> None:
    with open_run() as run:
        for start in range(0, len(names), 2):
            barrier.wait(60)
            with run.together():
                for name in names[start : start + 2]:
                    run.dataset(pd.DataFrame({"n": [1]}), name=name, digest="d", context="testing")


def test_runs_can_register_the_same_data_set_at_the_same_moment(moved_project: Path) -> None:
    names, barrier = [str(number) for number in range(20)], FORK.Barrier(4)
    children = [FORK.Process(target=name_new_datasets, args=(barrier, names)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    runs = [run for run in stored().search_runs(["1"]) if run.inputs.dataset_inputs]
    assert [sorted(entry.dataset.name for entry in run.inputs.dataset_inputs) for run in runs] == [sorted(names)] * 4


def test_another_value_for_a_param_is_refused_in_one_line(moved_project: Path) -> None:
    with open_run() as run:
        run.params({"seed": 1})
        with pytest.raises(TrackingError, match="Changing param values is not allowed") as caught:
            run.params({"seed": 2})
    assert "\n" not in str(caught.value)
