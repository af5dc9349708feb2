"""What goes and what stays: nothing that a kept run refers to is ever removed, and DVC's cache is not touched."""

import json
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from reviewtune import cleaning, tracking
from reviewtune.config import Config
from tests.serving import ServerProcess, example, finished, upload


@pytest.fixture
def place(tmp_path: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git, at the account of the test server."""
    (tmp_path / "dvc.yaml").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVIEWTUNE_HOME", str(server.data_dir.parent))
    return tmp_path


@pytest.fixture
def settings(config: Config, base: str) -> Config:
    return config.model_copy(update={"provider": config.provider.model_copy(update={"base_model": base})})


def make(config: Config, kind: Any, *, ok: bool = True, parent: str | None = None, **tags: str) -> str:
    try:
        with tracking.open_run(config.tracking, name=kind, kind=kind, tags=tags, parent=parent) as run:
            run.text("x" * 1000, "big.txt")
            if not ok:
                raise ValueError("no")
    except ValueError:
        pass
    return run.id


def commit(place: Path, name: str, run_id: str) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"mlflow_run_id": run_id}, indent=2))
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["add", "-f", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", *who, *words], cwd=place, check=True)


def test_what_files_tags_and_sweeps_refer_to_is_kept(place: Path, settings: Config) -> None:
    past, now = make(settings, "evaluation", model="old"), make(settings, "evaluation", model="new", passes="")
    tuned = make(settings, "finetune", model="new")
    commit(place, "reports/arms/finetuned/run.json", past)
    commit(place, "reports/arms/finetuned/run.json", now)
    tagged = make(settings, "evaluation", keep="yes")
    sweep = make(settings, "sweep")
    child, failed = make(settings, "job", parent=sweep), make(settings, "job", parent=sweep, ok=False)
    forgotten = make(settings, "evaluation", model="nobody's")
    plan = cleaning.plan(settings)
    assert {run.id for run in plan.runs} == {forgotten, failed}
    assert plan.size >= 2000  # a kilobyte each
    assert {run.id for run in tracking.find_runs(settings.tracking)} >= {past, now, tuned, tagged, sweep, child, failed}
    assert {run.id for run in cleaning.plan(settings, sweeps=0).runs} == {forgotten, failed, sweep, child}


def test_execution_removes_what_the_plan_names_and_nothing_else(place: Path, settings: Config) -> None:
    kept, gone = make(settings, "evaluation", keep="yes"), make(settings, "evaluation")
    for name in (".work/sweep/abc", ".work/hydra/2026", ".work/finetune", ".dvc/cache/files"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("content")
    plan = cleaning.plan(settings)
    cleaning.execute(plan, settings)
    assert [run.id for run in tracking.find_runs(settings.tracking)] == [kept]
    assert not list((place / "mlruns").rglob(gone))
    assert sorted(path.parent.name for path in place.glob(".*/*/**/file")) == ["files", "finetune"]
    assert cleaning.plan(settings).size == 0


def test_an_open_sweep_keeps_its_files(place: Path, settings: Config) -> None:
    (place / ".work/sweep/abc").mkdir(parents=True)
    with tracking.open_run(settings.tracking, name="sweep", kind="sweep", tags={}):
        plan = cleaning.plan(settings)
    assert plan.folders == ()
    assert plan.runs == ()


def test_of_a_sweep_the_losers_model_goes_with_its_checkpoints(
    place: Path, settings: Config, client: openai.OpenAI, base: str
) -> None:
    def train(index: int) -> tuple[str, str]:
        file = upload(client, [example(index + number) for number in range(12)], name=f"clean-{index}.jsonl")
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 12}}}
        job = finished(client, client.fine_tuning.jobs.create(model=base, training_file=file.id, method=method).id)
        assert job.fine_tuned_model
        return job.fine_tuned_model, job.id

    (winner, won), (loser, lost), (foreign, _) = train(100), train(200), train(300)
    sweep = make(settings, "sweep")
    best = make(settings, "job", parent=sweep, provider="local", model=winner, job_id=won)
    make(settings, "job", parent=sweep, provider="local", model=loser, job_id=lost)
    tracking.stored_run(settings.tracking, sweep).tags({"best_run": best})
    plan = cleaning.plan(settings)
    assert plan.models == (loser,)
    assert plan.runs == ()
    assert plan.size > 10_000
    cleaning.execute(plan, settings)
    there = {model.id for model in client.models.list()}
    assert {winner, foreign} <= there
    assert not [name for name in there if name.startswith(loser)]


def test_on_a_shared_server_runs_and_models_of_others_stay(place: Path, settings: Config) -> None:
    address = f"sqlite:///{place}/shared.db"  # used as an address, not as this project's own store
    shared = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"uri": address})})
    mine, theirs = make(shared, "evaluation"), make(shared, "evaluation", workspace="other-machine:/home/b")
    make(shared, "sweep")
    newer = make(shared, "sweep", workspace="other-machine:/home/b")
    child = make(shared, "job", parent=newer, workspace="other-machine:/home/b", provider="local", model="ft:b")
    assert {run.id for run in cleaning.plan(shared).runs} == {mine}
    assert {run.id for run in cleaning.plan(shared, sweeps=1).runs} == {mine}
    cleaning.execute(cleaning.plan(shared, sweeps=0), shared)
    assert {run.id for run in tracking.find_runs(shared.tracking)} == {theirs, newer, child}


def test_a_paid_providers_models_are_left_alone(place: Path, settings: Config) -> None:
    hosted = settings.model_copy(update={"provider": settings.provider.model_copy(update={"kind": "openai"})})
    make(settings, "job", provider="openai", model="ft:gpt:1", job_id="ftjob-1")
    assert cleaning.plan(hosted).models == ()
