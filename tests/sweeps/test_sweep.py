"""Sweeps as a user runs them: real Hydra, a real server over a tiny model, a real MLflow store.

The tests follow a user's day: each continues where the one before stopped.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest
from mlflow import MlflowClient

from reviewtune.core.config.config import Config
from reviewtune.core.project import SplitFiles
from reviewtune.data.preparation import write_splits
from reviewtune.errors import ConfigError
from reviewtune.sweeps.job import Job, composed
from reviewtune.sweeps.run_job import prepare_job
from reviewtune.sweeps.sweep import check_all
from tests.support.serving import ServerProcess, wait_for
from tests.support.sweep_project import environment, make_project, sweep

KILLED = ("training.n_epochs=1,2", "training.seed=1,2")


class Place:
    """A user's project, with its MLflow store and its provider."""

    def __init__(self, folder: Path, home: Path, client: openai.OpenAI) -> None:
        self.folder, self.home, self.client = folder, home, client

    def sweep(self, *overrides: str, ok: bool = True) -> str:
        return sweep(self.folder, self.home, *overrides, ok=ok)

    def runs(self, kind: str, filter_string: str = "") -> list[Any]:
        store = MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db")
        ids = [experiment.experiment_id for experiment in store.search_experiments()]
        both = f"tags.kind = '{kind}'" + (f" and {filter_string}" if filter_string else "")
        return list(store.search_runs(ids, both))

    def models(self) -> set[str]:
        return {
            model.id for model in self.client.models.list() if model.id.startswith("ft:") and "ckpt" not in model.id
        }


@pytest.fixture(scope="module")
def place(project: Path, tmp_path_factory: pytest.TempPathFactory, server: ServerProcess, base: str) -> Iterator[Place]:
    folder = make_project(project, tmp_path_factory.mktemp("sweep") / "project", base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Place(folder, server.data_dir.parent, server.client)


@pytest.fixture(scope="module")
def interrupted(place: Place) -> set[str]:
    """A sweep of four jobs, killed -9 after its first; returns the models from before it."""
    before = place.models()
    command = [sys.executable, "stages/sweep.py", "--multirun", *KILLED]
    process = subprocess.Popen(
        command, cwd=place.folder, env=environment(place.folder, place.home), stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: list(place.folder.glob(".work/sweep/*/validation/metrics.json")), 300)
        wait_for(lambda: place.runs("job", "attributes.status = 'FINISHED'"), 60)
    finally:
        process.kill()
        process.wait()
    return before


def test_a_killed_sweep_continues_in_the_same_runs(place: Place, interrupted: set[str]) -> None:
    (done,) = place.runs("job", "attributes.status = 'FINISHED'")
    shown = place.sweep(*KILLED)
    assert "1 of 4 jobs were done before" in shown
    children = place.runs("job")
    assert {child.info.status for child in children} == {"FINISHED"}
    assert len(children) == 4
    assert len(place.runs("sweep")) == 1
    assert len(place.models() - interrupted) == 4
    (again,) = [child for child in children if child.info.run_id == done.info.run_id]
    assert again.info.end_time == done.info.end_time


def test_the_table_has_mean_and_spread_and_names_the_winner(place: Place, interrupted: set[str]) -> None:
    (parent,) = place.runs("sweep")
    note = parent.data.tags["mlflow.note.content"]
    assert "± seeds" in note
    assert parent.data.tags["best"].startswith("n_epochs=")
    names = sorted(child.info.run_name for child in place.runs("job"))
    assert [name[:2] for name in names] == ["#1", "#1", "#2", "#2"]
    assert all("%" in name for name in names)
    for child in place.runs("job"):
        assert {"rank", "behind_best", "validation_accuracy", "mean_validation_accuracy"} <= set(child.data.metrics)
        assert {"n_epochs", "seed"} <= set(child.data.params)
        assert next(iter(child.data.metrics)) == "validation_accuracy"  # what MLflow's compare page plots
    (folder,) = (place.folder / "reports" / "sweeps").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "ranked.md", "ranked.csv", "epochs.png", "accuracy_against_cost.png"
    }  # fmt: skip


def test_the_winner_alone_was_asked_about_the_test_split(place: Place, interrupted: set[str]) -> None:
    """Its numbers, tables and data set are in its run, as the pipeline writes them."""
    (parent,) = place.runs("sweep")
    asked = [child for child in place.runs("job") if "accuracy" in child.data.metrics]
    assert [child.info.run_id for child in asked] == [parent.data.tags["best_run"]]
    best = max(child.data.metrics["validation_accuracy"] for child in place.runs("job"))
    assert best in {child.data.metrics["validation_accuracy"] for child in asked}
    assert "the test split was used for this one variant only" in parent.data.tags["mlflow.note.content"]
    artifacts = Path(asked[0].info.artifact_uri)
    metrics = json.loads((artifacts / "metrics.json").read_text())
    assert metrics["test_sha256"] == asked[0].data.tags["test_sha256"]
    validation = json.loads((artifacts / "validation" / "metrics.json").read_text())
    assert validation["test_sha256"] == asked[0].data.tags["valid_sha256"]
    assert {given.tags[0].value for given in asked[0].inputs.dataset_inputs} == {"training", "validation", "evaluation"}


def test_sizes_share_the_validation_split_and_seeds_of_the_split_do_not(place: Place) -> None:
    def valid(*overrides: str) -> bytes:
        job = composed(overrides)
        prepare_job(job)
        return job.splits.valid.read_bytes()

    assert valid("data.train_size=22") == valid("data.train_size=all") != valid("split.seed=2")


def test_a_validation_review_in_the_training_file_is_refused_before_a_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault in the split would cause; the sweep chooses by these reviews."""

    def leaking(config: Config, labeled: Path, files: SplitFiles, *, frozen: Path) -> tuple[str, ...]:
        notes = write_splits(config, labeled, files, frozen=frozen)
        train, valid = pd.read_csv(files.train, dtype=str), pd.read_csv(files.valid, dtype=str)
        train.loc[0, "text"] = f"{valid['text'].iloc[0]}!"
        train.to_csv(files.train, index=False)
        return notes

    monkeypatch.setattr("reviewtune.sweeps.run_job.write_splits", leaking)
    with pytest.raises(ConfigError, match=r"1 validation review, or near-duplicates .* training_data.jsonl"):
        check_all([["split.seed=77"]])


def test_the_same_sweep_again_makes_no_job_no_run_and_no_request(place: Place, interrupted: set[str]) -> None:
    before = (place.models(), {run.info.run_id: run.info.end_time for run in place.runs("job")})
    log = place.home / "data.log"
    requests = log.read_text().count("POST") if log.exists() else 0
    shown = place.sweep(*KILLED)
    assert "4 of 4 jobs were done before" in shown
    assert "sweep, best first" in shown
    assert (place.models(), {run.info.run_id: run.info.end_time for run in place.runs("job")}) == before
    assert (log.read_text().count("POST") if log.exists() else 0) == requests
    assert len(place.runs("sweep")) == 1


def test_a_failed_job_is_kept_with_its_message_and_the_others_continue(place: Place, interrupted: set[str]) -> None:
    base = place.runs("job")[0].data.params["provider.base_model"]
    shown = place.sweep("training.seed=1", f"provider.base_model=no-such-model,{base}", ok=False)
    assert "does not offer 'no-such-model'" in shown
    assert "1 of 2 jobs failed" in shown
    assert "Traceback" not in shown
    (failed,) = place.runs("job", "attributes.status = 'FAILED'")
    assert "does not offer 'no-such-model'" in failed.data.tags["error"]
    (parent,) = place.runs("sweep", "attributes.status = 'FAILED'")
    assert "1 of 2 jobs failed" in parent.data.tags["error"]
    assert parent.data.metrics["failed_jobs"] == 1


@pytest.mark.parametrize(
    ("combination", "message"),
    [
        ("training.n_epochs=0", "training.n_epochs"),
        ("prompt=nope", "detailed"),
        ("data.train_size=100000", "only .* training reviews"),
        ("data.path=nowhere.csv", "nowhere.csv: no such file"),
    ],
)
def test_every_combination_is_checked_before_the_first_job(place: Place, combination: str, message: str) -> None:
    jobs = len(place.runs("job")) if (place.folder / "mlruns").exists() else 0
    with pytest.raises(
        ConfigError, match=rf"1 of 2 combinations are faulty, no job was run: \[{combination}\].*{message}"
    ):
        check_all([["training.seed=5"], [combination]])
    assert (len(place.runs("job")) if jobs else 0) == jobs


def test_a_missing_key_is_reported_once_before_the_first_job(
    place: Place, interrupted: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = len(place.runs("job"))
    shown = place.sweep("provider=openai", "training.seed=1,2", ok=False)
    assert shown.count("the variable OPENAI_API_KEY is not set") == 1
    assert "Traceback" not in shown
    assert len(place.runs("job")) == before


def test_equal_settings_are_one_job_and_another_file_makes_another(place: Place) -> None:
    def job(*overrides: str) -> Job:
        return composed(overrides)

    assert job("prompt=short").key == job("prompt=short", "tracking.experiment=other").key
    assert job("prompt=short").key != job("prompt=detailed").key
    first = job("training.seed=3").key
    path = place.folder / "data/raw/reviews_en.csv"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"parcel", b"packet"))
    assert job("training.seed=3").key != first
    path.write_bytes(content)
    assert job("training.seed=3").key == first


def test_a_job_masks_what_it_uploads_and_scores_hostile_reviews(place: Place) -> None:
    """With both settings on; the reviews have an address each."""
    path = place.folder / "data/raw/reviews_en.csv"
    content, known = path.read_bytes(), {file.id for file in place.client.files.list()}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.assign(text=table["text"] + " Write to jane@mail.example").to_csv(path, index=False)
    place.sweep("data.mask_personal=true", "evaluation.injections=true")
    path.write_bytes(content)
    uploaded = [file.id for file in place.client.files.list(purpose="fine-tune") if file.id not in known]
    assert len(uploaded) == 2
    for lines in (place.client.files.content(file).text.splitlines() for file in uploaded):
        assert all("Write to [EMAIL]" in line for line in lines)
        assert not any("@mail.example" in line for line in lines)
    (run,) = [run for run in place.runs("job") if "injections" in run.data.tags["overrides"]]
    metrics = json.loads((Path(run.info.artifact_uri) / "metrics.json").read_text())
    assert metrics["injections"]["n"] > 50


def test_overrides_of_a_job_are_kept(place: Place, interrupted: set[str]) -> None:
    overrides = [json.loads(run.data.tags["overrides"]) for run in place.runs("job")]
    assert ["training.n_epochs=1", "training.seed=1"] in overrides


def test_a_job_is_composed_from_the_conf_of_its_own_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for name in ("first", "second"):
        monkeypatch.chdir(make_project(project, tmp_path / name, f"{name}-model"))
        models.append(composed(["prompt=short"]).config.provider.base_model)
    assert models == ["first-model", "second-model"]
