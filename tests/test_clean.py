"""What goes and what stays: nothing that a kept run refers to is ever removed, and DVC's cache is not touched."""

import json
import subprocess
from collections.abc import Callable
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


@pytest.fixture
def train(client: openai.OpenAI, base: str) -> Callable[[int], tuple[str, str]]:
    """Fine-tune on a file of its own: the model and the job."""

    def train(index: int) -> tuple[str, str]:
        file = upload(client, [example(index + number) for number in range(12)], name=f"clean-{index}.jsonl")
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 12}}}
        job = finished(client, client.fine_tuning.jobs.create(model=base, training_file=file.id, method=method).id)
        assert job.fine_tuned_model
        return job.fine_tuned_model, job.id

    return train


def make_sweep(settings: Config, *trained: tuple[str, str]) -> None:
    """One job a model; the first one wins."""
    sweep = make(settings, "sweep")
    jobs = [make(settings, "job", parent=sweep, provider="local", model=model, job_id=job) for model, job in trained]
    tracking.stored_run(settings.tracking, sweep).tags({"best_run": jobs[0]})


def test_sweep_after_sweep_leaves_the_newest_winners_model_and_no_more(
    place: Path, settings: Config, server: ServerProcess, client: openai.OpenAI, train: Callable[[int], tuple[str, str]]
) -> None:
    winner, loser, foreign = train(100), train(200), train(300)
    make_sweep(settings, winner, loser)
    plan = cleaning.plan(settings)
    assert plan.models == (loser[0],)
    assert plan.runs == ()
    assert plan.size > 10_000
    cleaning.execute(plan, settings)
    assert fine_tunes(client) >= {winner[0], foreign[0]}
    assert loser[0] not in fine_tunes(client)
    assert {"clean-100.jsonl", "clean-300.jsonl"} <= {file.filename for file in client.files.list()}
    first = left(server, settings)

    second = train(200)
    make_sweep(settings, second, winner)
    cleaning.execute(cleaning.plan(settings, sweeps=1), settings)
    assert fine_tunes(client) >= {second[0], foreign[0]}
    assert winner[0] not in fine_tunes(client)
    assert left(server, settings) == first


def fine_tunes(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list()}


def left(server: ServerProcess, settings: Config) -> dict[str, int]:
    """How much there is of what a sweep makes."""
    counts = {name: len(list((server.data_dir / name).iterdir())) for name in ("models", "jobs", "files")}
    return {**counts, "runs": len(tracking.find_runs(settings.tracking))}


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
