"""`reviewtune clean` never removes what a kept run refers to, and does not touch DVC's cache."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

from reviewtune.commands import clean
from reviewtune.commands.account_cleanup import Leftovers
from reviewtune.core.config.config import Config
from reviewtune.core.result_file import write_result
from reviewtune.data.prompts import Prompt
from reviewtune.finetuning.job_notes import note_of
from reviewtune.finetuning.jobs import Order, create, finetune
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.budget import Budget
from reviewtune.tracking import queries
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking.process import process_name
from reviewtune.tracking.store import open_store as store_of
from tests.support.recorded import recorded
from tests.support.serving import ServerProcess, example, finished, jsonl, upload, wait_for


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
        with tracking_runs.open_run(config.tracking, name=kind, kind=kind, tags=tags, parent=parent) as run:
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
    plan = clean.plan(settings)
    assert {run.id for run in plan.runs} == {forgotten, failed}
    assert plan.size >= 2000  # a kilobyte each
    assert {run.id for run in queries.find_runs(settings.tracking)} >= {
        past,
        now,
        tuned,
        tagged,
        sweep,
        child,
        failed,
    }
    assert {run.id for run in clean.plan(settings, sweeps=0).runs} == {forgotten, failed, sweep, child}


def test_execution_removes_what_the_plan_names_and_nothing_else(place: Path, settings: Config) -> None:
    kept, gone = make(settings, "evaluation", keep="yes"), make(settings, "evaluation")
    for name in (".work/sweep/abc", ".work/hydra/2026", ".work/finetune", ".dvc/cache/files"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("content")
    plan = clean.plan(settings)
    clean.execute(plan, settings)
    assert [run.id for run in queries.find_runs(settings.tracking)] == [kept]
    assert not list((place / "mlruns").rglob(gone))
    assert sorted(path.parent.name for path in place.glob(".*/*/**/file")) == ["files", "finetune"]
    assert clean.plan(settings).size == 0


def test_a_removed_sweeps_tables_and_budget_are_removed_unless_committed(place: Path, settings: Config) -> None:
    sweeps = []
    for letter in "abc":
        with tracking_runs.open_run(
            settings.tracking, name="x", kind="sweep", tags={}, run_key=tracking_runs.RunKey(f"sweep:{letter * 64}")
        ) as run:
            sweeps.append(run.id)
        table = place / "reports" / "sweeps" / (letter * 8) / "ranked.md"
        table.parent.mkdir(parents=True)
        table.write_text("table")
        if letter == "a":
            commit(place, "run.json", run.id)  # and all else that is there
    with open_store() as answers:
        for scope in (*sweeps, "run-of-now", "a-sweep-of-another-project"):
            Budget(answers, 1.0, scope).set_aside(0.25)
        with answers.writing() as connection:
            connection.execute("INSERT INTO spending VALUES ('run-of-last-month', 0.5, ?)", (time.time() - 30 * 86400,))
    clean.execute(clean.plan(settings, sweeps=1), settings)
    assert {path.name for path in (place / "reports" / "sweeps").iterdir()} == {"a" * 8, "c" * 8}
    with open_store() as answers:
        left = {row[0] for row in answers.rows("SELECT scope FROM spending")}
    assert left == {sweeps[2], "run-of-now", "a-sweep-of-another-project"}


def test_everything_that_takes_space_is_shown_once(place: Path, settings: Config, server: ServerProcess) -> None:
    for name in ("mlruns/x", ".work/x", "reports/sweeps/x/x", ".dvc/cache/x", ".dvc/tmp/x"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x" * 1_000_000)
    log = server.data_dir / "server.log"
    log.write_bytes(b"x" * 1_000_000)
    items = clean.on_disk(settings)
    home = server.data_dir.parent
    files = [path.lstat() for name in ("data", "cache") for path in (home / name).rglob("*") if path.is_file()]
    shared = sum({file.st_ino: file.st_size for file in files}.values())  # the server makes hard links: one file each
    log.unlink()
    assert [item.size for item in items].count(1_000_000) == 6
    assert sum(item.size for item in items if "shared by all" in item.what) == shared


def test_an_open_sweep_keeps_its_files(place: Path, settings: Config) -> None:
    (place / ".work/sweep/abc").mkdir(parents=True)
    with tracking_runs.open_run(settings.tracking, name="sweep", kind="sweep", tags={}):
        plan = clean.plan(settings)
    assert plan.folders == ()
    assert plan.runs == ()


def test_a_run_that_was_killed_goes_and_a_killed_sweep_keeps_its_finished_jobs(place: Path, settings: Config) -> None:
    """Among as many sweeps as are kept: the same command still continues it."""
    (place / ".work/sweep/abc").mkdir(parents=True)
    older = make(settings, "sweep")
    sweep, evaluation = make_killed(settings, "sweep"), make_killed(settings, "evaluation")
    finished, unfinished = make(settings, "job", parent=sweep), make_killed(settings, "job", parent=sweep)
    plan = clean.plan(settings, sweeps=1)
    assert {run.id for run in plan.runs} == {older, evaluation, unfinished}
    assert plan.folders == (place / ".work/sweep/abc",)
    newer = make(settings, "sweep")
    assert {run.id for run in clean.plan(settings, sweeps=2).runs} == {older, evaluation, unfinished}
    assert newer not in {run.id for run in clean.plan(settings, sweeps=1).runs} >= {sweep, finished}


def make_killed(settings: Config, kind: Any, parent: str | None = None) -> str:
    """As `kill -9` leaves a run: open, of a process that ended."""
    ended = subprocess.Popen(["true"])
    process = process_name(ended.pid)
    ended.wait()
    run = make(settings, kind, parent=parent, process=process)
    store_of(settings.tracking).update_run(run, status="RUNNING")
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        database.execute("UPDATE runs SET end_time = NULL WHERE run_uuid = ?", (run,))
    return run


@pytest.fixture
def train(client: openai.OpenAI, base: str) -> Callable[[int], tuple[str, str]]:
    """Fine-tune on a separate file; returns the model and the job."""

    def train(index: int) -> tuple[str, str]:
        file = upload(client, [example(index + number) for number in range(12)], name=f"clean-{index}.jsonl")
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 12}}}
        job = finished(client, client.fine_tuning.jobs.create(model=base, training_file=file.id, method=method).id)
        assert job.fine_tuned_model
        return job.fine_tuned_model, job.id

    return train


def make_sweep(settings: Config, *trained: tuple[str, str]) -> None:
    """A sweep with one job per model, of which the first wins."""
    sweep = make(settings, "sweep")
    jobs = [make(settings, "job", parent=sweep, provider="local", model=model, job_id=job) for model, job in trained]
    queries.stored_run(settings.tracking, sweep).tags({"best_run": jobs[0]})


def test_after_several_sweeps_only_the_newest_winners_model_is_left(
    place: Path, settings: Config, server: ServerProcess, client: openai.OpenAI, train: Callable[[int], tuple[str, str]]
) -> None:
    winner, loser, foreign = train(100), train(200), train(300)
    make_sweep(settings, winner, loser)
    plan = clean.plan(settings)
    assert plan.leftovers.models == (loser[0],)
    assert plan.leftovers.jobs == ()  # the loser's run stays, and names its job
    assert plan.runs == ()
    assert plan.size > 10_000
    clean.execute(plan, settings)
    assert fine_tunes(client) >= {winner[0], foreign[0]}
    assert loser[0] not in fine_tunes(client)
    assert {"clean-100.jsonl", "clean-300.jsonl"} <= {file.filename for file in client.files.list()}
    first = left(server, settings)

    interrupted = train(400)
    sweep = make(settings, "sweep")
    make(settings, "job", parent=sweep, provider="local", model=interrupted[0], job_id=interrupted[1])
    assert clean.plan(settings).leftovers.models == ()  # the same command continues it, and may find that it won
    queries.stored_run(settings.tracking, sweep).tags({"best_run": "another"})
    clean.execute(clean.plan(settings), settings)
    assert interrupted[0] not in fine_tunes(client)

    second = train(200)
    make_sweep(settings, second, winner)
    clean.execute(clean.plan(settings, sweeps=1), settings)
    assert fine_tunes(client) >= {second[0], foreign[0]}
    assert winner[0] not in fine_tunes(client)
    assert left(server, settings) == first


def fine_tunes(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list()}


def left(server: ServerProcess, settings: Config) -> dict[str, int]:
    """How many models, jobs, files and runs there are."""
    counts = {name: len(list((server.data_dir / name).iterdir())) for name in ("models", "jobs", "files")}
    return {**counts, "runs": len(queries.find_runs(settings.tracking))}


def order(index: int, settings: Config, folder: Path) -> Order:
    """An order with a separate training file, as a sweep's job places it."""
    path = folder / f"{index}.jsonl"
    path.write_bytes(jsonl([example(index + number) for number in range(12)]))
    training = settings.training.model_copy(update={"n_epochs": 1, "batch_size": 12})
    return Order(training_file=path, validation_file=None, provider=settings.provider, training=training)


def test_jobs_and_notes_that_no_kept_run_names_are_removed(
    place: Path, settings: Config, server: ServerProcess, client: openai.OpenAI
) -> None:
    older, newer, failed = (order(index, settings, place) for index in (400, 500, 600))
    past, kept = (finetune(client, placed) for placed in (older, newer))
    cancelled = client.fine_tuning.jobs.cancel(create(client, failed).id)
    note_of(failed.key).write_text(json.dumps({"job_id": cancelled.id}))
    foreign = finished(client, client.fine_tuning.jobs.cancel(create(client, order(700, settings, place)).id).id)
    for finetuned in (past, kept):
        make_sweep(settings, (finetuned.model, finetuned.job.id))
    before = stored(client)

    plan = clean.plan(settings, sweeps=1)
    assert {job.id for job in plan.leftovers.jobs} == {past.job.id, cancelled.id}
    assert stored(client) == before  # a plan only looks
    wait_for(lambda: server.trainer(cancelled.id) is None)
    clean.execute(plan, settings)
    assert stored(client) == before - {past.job.id, past.model, cancelled.id}
    assert foreign.id in stored(client)  # no run of this project names it
    assert {path.stem for path in note_of("x").parent.iterdir()} == {newer.key}
    assert clean.plan(settings, sweeps=1).leftovers == Leftovers()
    assert finetune(client, newer).job.id == kept.job.id  # found
    assert finetune(client, older).job.id == past.job.id  # created again, under the same name


def test_what_another_clone_of_the_project_needs_stays(
    place: Path, settings: Config, client: openai.OpenAI, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Equal orders of two clones are one job, and either clone may be cleaned first."""
    shared, own = order(900, settings, place), order(950, settings, place)
    trained = [finetune(client, placed) for placed in (shared, own)]
    make_sweep(settings, *((finetuned.model, finetuned.job.id) for finetuned in trained))
    other = tmp_path_factory.mktemp("other")
    (other / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other)
        assert finetune(client, shared).job.id == trained[0].job.id
    clean.execute(clean.plan(settings, sweeps=0), settings)
    assert {trained[0].job.id, trained[0].model} <= stored(client)
    assert not {trained[1].job.id, trained[1].model} & stored(client)


def test_a_shared_account_is_left_alone_unless_the_runs_are_shared_too(place: Path, settings: Config) -> None:
    """A colleague's clone may have the same job, and its runs cannot be seen from here."""
    make(settings, "job", provider="local", model="ft:team", job_id="ftjob-team")
    shared = settings.model_copy(
        update={"provider": settings.provider.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})}
    )
    plan = clean.plan(shared)  # without a request, which would fail
    assert plan.leftovers == Leftovers()
    assert "may have users whose runs are not in this store" in plan.items[1].what


def test_the_model_of_the_workspace_stays_without_its_run(
    place: Path, settings: Config, client: openai.OpenAI, train: Callable[[int], tuple[str, str]]
) -> None:
    """The run may be in a different store, or its run.json may be that of a different revision."""
    model, job = train(1000)
    make(settings, "finetune", provider="local", model=model, job_id=job)
    frame = pd.DataFrame({"text": ["late"], "label": [next(iter(settings.data.labels))]})
    record = recorded(model, Prompt.of(settings), frame, place / "chat", checkpoints=[])
    write_result(record.model_copy(update={"job_id": job}), place / "models" / "finetuned.json")
    assert clean.plan(settings).leftovers == Leftovers()
    (place / "models" / "finetuned.json").unlink()
    assert model in clean.plan(settings).leftovers.models


def stored(client: openai.OpenAI) -> set[str]:
    """Jobs and fine-tunes in the account."""
    jobs = {job.id for job in client.fine_tuning.jobs.list(limit=100)}
    return jobs | {name for name in fine_tunes(client) if ":ckpt-step-" not in name}


def test_an_order_with_one_kept_job_keeps_them_all(
    place: Path, settings: Config, client: openai.OpenAI, server: ServerProcess
) -> None:
    """Their number is part of the next job's idempotency key: without the first, the second would be created twice."""
    twice = order(800, settings, place)
    first = finished(client, client.fine_tuning.jobs.cancel(create(client, twice).id).id)
    second = finetune(client, twice)
    run = make(settings, "job", provider="local", model=second.model, job_id=second.job.id, keep="yes")
    assert clean.plan(settings).leftovers == Leftovers()
    queries.delete_runs(settings.tracking, [run])
    client.models.delete(second.model)
    plan = clean.plan(settings)
    assert {job.id for job in plan.leftovers.jobs} == {first.id, second.job.id}
    wait_for(lambda: server.trainer(first.id) is None)
    clean.execute(plan, settings)
    assert not {first.id, second.job.id} & stored(client)


def test_on_a_shared_server_runs_and_models_of_others_stay(place: Path, settings: Config) -> None:
    address = f"sqlite:///{place}/shared.db"  # used as an address, not as this project's own store
    shared = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"uri": address})})
    mine, theirs = make(shared, "evaluation"), make(shared, "evaluation", workspace="other-machine:/home/b")
    make(shared, "sweep")
    newer = make(shared, "sweep", workspace="other-machine:/home/b")
    child = make(shared, "job", parent=newer, workspace="other-machine:/home/b", provider="local", model="ft:b")
    assert {run.id for run in clean.plan(shared).runs} == {mine}
    assert {run.id for run in clean.plan(shared, sweeps=1).runs} == {mine}
    clean.execute(clean.plan(shared, sweeps=0), shared)
    assert {run.id for run in queries.find_runs(shared.tracking)} == {theirs, newer, child}


def test_a_paid_providers_models_are_left_alone(place: Path, settings: Config) -> None:
    hosted = settings.model_copy(update={"provider": settings.provider.model_copy(update={"kind": "openai"})})
    make(settings, "job", provider="openai", model="ft:gpt:1", job_id="ftjob-1")
    assert clean.plan(hosted).leftovers == Leftovers()
