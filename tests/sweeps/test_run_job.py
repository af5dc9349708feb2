"""A sweep's runs in a real store, without the training: what is written at its end, what a second command does."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.terminal.progress import Progress, TerminalProgress
from reviewtune.errors import JobError, ProviderError
from reviewtune.evaluation.metrics.classification import score
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.evaluation.plots import confusion_matrix
from reviewtune.sweeps import job as sweeps_job
from reviewtune.sweeps.job import Job, Sweep, composed
from reviewtune.sweeps.run_job import prepare_job, run_job
from reviewtune.sweeps.sweep import check_all, parent_run
from reviewtune.tracking import queries, ui_pages
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, describe_run
from reviewtune.tracking.runs import Run, RunKey, RunRecord, open_run
from tests.support.sweep_project import make_project

RIGHT = {"short": 40, "detailed": 30}
TABLES = ("predictions.csv", "per_label.csv")  # in the folder validation/
CURVE, PICTURES = "training_curve.csv", ("confusion_matrix.png", "training_curve.png")
ON_TEST = {"short": 0.7, "detailed": 0.9}  # accuracies on the test split


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = make_project(project, tmp_path / "project", "some-model")
    monkeypatch.chdir(folder)
    monkeypatch.delenv(sweeps_job.SWEEP, raising=False)
    yield folder
    monkeypatch.delenv(sweeps_job.SWEEP, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the questions about the test split; returns whose model was asked. There the loser is the better one."""
    asked: list[str] = []

    def on_test(job: Job, child: RunRecord, tracking: TrackingConfig, *, progress: Progress) -> Any:
        name = job.config.prompt.name
        asked.append(name)
        numbers = interval("accuracy", ON_TEST[name])
        queries.stored_run(tracking, child.id).metrics({**numbers, "n": 193})
        return SimpleNamespace(metrics=SimpleNamespace(accuracy=Interval(*numbers.values()), n=193))

    monkeypatch.setattr("reviewtune.sweeps.conclusion.score_on_test", on_test)
    return asked


@pytest.fixture
def work(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces a job by one that only writes the numbers of a fine-tune and its evaluation; returns which ones ran."""
    ran: list[str] = []

    def done(job: Job, run: Any, variant: dict[str, str], progress: Progress) -> float:
        ran.append(job.config.prompt.name)
        if job.config.training.seed == 666:
            raise ProviderError("no such model")
        right = RIGHT[job.config.prompt.name]
        labels = ["a"] * 50
        table = pd.DataFrame(
            {"review_id": range(50), "label": labels, "predicted": ["a"] * right + ["b"] * (50 - right)}
        )
        table.to_csv("predictions.csv", index=False)
        pd.DataFrame({"label": ["a", "b"]}).to_csv("per_label.csv", index=False)
        pd.DataFrame({"step": [1, 2], "train_loss": [2.0, 1.0]}).to_csv("training_curve.csv", index=False)
        for name in TABLES:
            run.artifact(Path(name), "validation")
        run.artifact(Path(CURVE))
        run.params(variant)
        run.metrics(interval("validation_accuracy", right / 50))
        run.metrics({"validation_macro_f1": 0.5, "validation_cost_per_1k": 0.1})
        run.metrics({"trained_tokens": 10, "training_reviews": 33})
        tags = {"data": "reviews_en", "valid_sha256": "d", "test_sha256": "e"}
        run.tags({"model": f"ft:{right}", "arm": "finetuned", **tags})
        return right / 50

    monkeypatch.setattr("reviewtune.sweeps.run_job._fine_tune_and_validate", done)
    return ran


def interval(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}


def sweep(*overrides: str, test_all: bool = False) -> None:
    """A sweep over both prompts, in this process."""
    progress, title = TerminalProgress(), "sweep prompt=short,detailed"
    jobs = check_all([[f"prompt={name}", *overrides] for name in RIGHT], progress=progress)
    with parent_run(title, ["prompt"], jobs, len(jobs), test_all=test_all, progress=progress):
        for job in jobs:
            run_job(job, progress=progress)


def runs(kind: str) -> list[Any]:
    store = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    assert store.get_experiment("1").tags["mlflow.experimentKind"] == "custom_model_development"  # some UIs go by it
    records: list[Any] = list(store.search_runs(["1"], f"tags.kind = '{kind}'", order_by=["metrics.rank"]))
    return records


def test_names_numbers_and_description_say_who_won(place: Path, work: list[str], capsys: Any) -> None:
    sweep()
    shown = capsys.readouterr().out
    assert "sweep: 2 of 2 jobs done" in shown
    assert "sweep, best first" in shown
    best, other = runs("job")
    assert best.info.run_name == "#1 80.0 % (best) prompt=short"
    assert other.info.run_name == "#2 60.0 % (−20.0) prompt=detailed"
    assert (best.data.metrics["behind_best"], other.data.metrics["behind_best"]) == (0, pytest.approx(-0.2))
    (parent,) = runs("sweep")
    assert "| 1 | prompt=short |" in parent.data.tags["mlflow.note.content"]
    assert other.data.tags["mlflow.note.content"].startswith(
        "Place 2 of 2: 60.0 [50.0, 70.0] % right on the validation split; −20.0 ["
    )
    assert parent.data.tags["best_run"] == best.info.run_id
    assert best.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_higher_limit_changes_no_setting_of_a_run(place: Path) -> None:
    """A job that a budget stopped continues in its run, whose settings cannot change."""
    cheap, dear = (composed([f"evaluation.budget_usd={usd}"]) for usd in (1, 2))
    assert cheap.key == dear.key
    for job in (cheap, dear):
        prepare_job(job)
        Path("params.yaml").write_text(job.text)
        with open_run(job.config.tracking, name="x", kind="job", tags={}, run_key=RunKey("x", continues="any")) as run:
            describe_run(run, job.config, sections=EVALUATION_SECTIONS, inputs={"valid": "x"}, splits=job.splits)
    (stored,) = runs("job")
    assert "evaluation.temperature" in stored.data.params


def test_two_settings_with_the_same_last_name_are_swept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then none of them has a short name, and each is a setting of the run already."""
    monkeypatch.setattr("reviewtune.sweeps.run_job.train", stopped)
    job = composed(["training.seed=1", "split.seed=2"])
    progress = TerminalProgress()
    with (
        pytest.raises(JobError, match="1 of 1 job failed"),
        parent_run("seeds", ["training.seed", "split.seed"], [job], 1, progress=progress),
    ):
        run_job(job, progress=progress)
    (stored,) = runs("job")
    assert (stored.data.params["training.seed"], stored.data.params["split.seed"]) == ("1", "2")
    assert stored.data.tags["variant.training.seed"] == "1"


def stopped(*_: object, **__: object) -> None:
    raise ProviderError("stopped")


def test_the_ui_needs_no_set_up(place: Path, work: list[str], config: Any) -> None:
    """Saved views with the columns that matter, links that open on trainings, the best first on the compare page."""
    sweep()
    (parent,) = runs("sweep")
    best, other = runs("job")
    order = f"%22{best.info.run_id}%22%2C%20%22{other.info.run_id}%22"
    link = f"#/compare-runs?runs=%5B{order}%5D&experiments=%5B%221%22%5D&workflowType=machine_learning"
    assert f"[The best 2 side by side]({link})" in parent.data.tags["mlflow.note.content"]
    experiment = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").get_experiment("1")
    links = ui_pages.links(config.tracking)
    (jobs,) = [title for title in links if title.startswith("Jobs")]
    key = links[jobs].partition("viewStateShareKey=")[2].partition("&")[0]
    view = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])["state"])
    assert view["selectedColumns"][:2] == ["tags.`data`", "metrics.`validation_accuracy`"]
    assert view["orderByKey"] == "metrics.`validation_accuracy`"
    shown_runs = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").search_runs(["1"], view["searchFilter"])
    assert {run.info.run_id for run in shown_runs} == {best.info.run_id, other.info.run_id}
    assert {title: link for title, link in links.items() if not title.startswith(("Jobs", "Results"))} == {
        "Sweeps, newest first": "#/experiments/1/runs?viewStateShareKey=sweeps&workflowType=machine_learning",
        "Newest sweep": f"#/experiments/1/runs/{parent.info.run_id}?workflowType=machine_learning",
    }


def test_every_job_gets_its_pictures_at_the_end_one_of_an_interrupted_sweep_too(place: Path, work: list[str]) -> None:
    jobs = check_all([[f"prompt={name}"] for name in RIGHT])

    def interrupted() -> None:
        with parent_run("sweep", ["prompt"], jobs, 2):
            run_job(jobs[0])
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        interrupted()
    (first,) = runs("job")
    folder = Path(first.info.artifact_uri)
    assert files_in(folder) == {CURVE, *(f"validation/{name}" for name in TABLES)}
    with parent_run("sweep", ["prompt"], jobs, 2):
        run_job(jobs[1])
    for run in runs("job"):
        names = {f"validation/{name}" for name in (*TABLES, PICTURES[0])}
        assert files_in(Path(run.info.artifact_uri)) == {CURVE, PICTURES[1], *names}
    scores = score(["a"] * 50, ["a"] * 40 + ["b"] * 10, labels=["a", "b"])
    picture = (folder / "validation" / PICTURES[0]).read_bytes()
    assert picture == confusion_matrix(scores, "ft:40, validation split")


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_winner_is_chosen_by_the_validation_split_and_alone_asked_about_the_test_split(
    place: Path, work: list[str], asked: list[str], capsys: Any
) -> None:
    """`detailed` is better on the test split, which nothing must be chosen by."""
    sweep()
    assert asked == ["short"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "test split: the winner, prompt=short, has 70.0 % [60.0, 80.0] of 193 reviews right" in shown
    assert "the test split was used for this one variant only" in shown
    (parent,) = runs("sweep")
    assert parent.data.tags["best"] == "prompt=short"
    assert parent.data.metrics["best_validation_accuracy"] == pytest.approx(0.8)
    assert parent.data.metrics["test_accuracy"] == pytest.approx(0.7)
    sweep()
    assert asked == ["short"]  # nothing is asked twice


def test_all_jobs_are_asked_about_the_test_split_on_request_only(
    place: Path, work: list[str], asked: list[str], capsys: Any
) -> None:
    sweep()
    capsys.readouterr()
    sweep(test_all=True)
    assert asked == ["short", "detailed"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "used for 2 jobs of this sweep, for information: do not choose by these" in shown
    (parent,) = runs("sweep")
    assert "| test % (for information) |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["best"] == "prompt=short"
    sweep()  # what the split was used for stays true
    assert "used for 2 jobs of this sweep" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_cannot_be_asked_here_does_not_fail_the_sweep(
    place: Path, work: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ProviderError("no such model")

    monkeypatch.setattr("reviewtune.sweeps.conclusion.score_on_test", fail)
    sweep()
    assert "test split: the winner, prompt=short, was not asked: no such model" in capsys.readouterr().out
    assert runs("sweep")[0].info.status == "FINISHED"


def test_jobs_of_an_earlier_version_are_left_out_and_done_again(
    place: Path, work: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """They have an accuracy on the test split only."""

    def as_before(job: Job, run: Run, *_: Any) -> float:
        run.metrics({**interval("accuracy", 0.8), "n": 193})
        return 0.8

    jobs = check_all([[f"prompt={name}"] for name in RIGHT])
    with monkeypatch.context() as patch:
        patch.setattr("reviewtune.sweeps.run_job._fine_tune_and_validate", as_before)
        with (
            pytest.raises(JobError, match="1 of 1 job failed"),  # the other one did not run
            parent_run("sweep", ["prompt"], jobs, 2, progress=TerminalProgress()),
        ):
            run_job(jobs[0])
    (old,) = runs("job")
    shown = capsys.readouterr().out
    assert "not ranked: 1 finished job of an earlier version, without a validation accuracy" in shown
    assert old.info.run_id[:12] in shown
    assert "best" not in runs("sweep")[0].data.tags
    with parent_run("sweep", ["prompt"], jobs, 2):
        for job in jobs:
            run_job(job)
    assert work == ["short", "detailed"]
    assert {run.info.run_id for run in runs("job")} > {old.info.run_id}
    assert runs("sweep")[0].data.tags["best"] == "prompt=short"


def test_again_it_finds_everything_done(place: Path, work: list[str], capsys: Any) -> None:
    sweep()
    before = {run.info.run_id: run.info.end_time for run in runs("job")}
    sweep()
    assert work == ["short", "detailed"]
    assert {run.info.run_id: run.info.end_time for run in runs("job")} == before
    assert len(runs("sweep")) == 1
    assert "2 of 2 jobs were done before" in capsys.readouterr().out


def test_a_failed_job_is_tried_again_in_its_own_run(
    place: Path, work: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RIGHT, "detailed", None)  # no number: a fault that is not the user's
    with pytest.raises(JobError, match="1 of 2 jobs failed; fix what they report"):
        sweep()
    (failed,) = [run for run in runs("job") if run.info.status == "FAILED"]
    assert "TypeError" in failed.data.tags["error"]
    assert runs("sweep")[0].info.status == "FAILED"
    assert asked == []  # the failed job may be the winner
    monkeypatch.setitem(RIGHT, "detailed", 45)
    sweep()
    assert asked == ["detailed"]
    assert work == ["short", "detailed", "detailed"]
    children = runs("job")
    assert [child.info.status for child in children] == ["FINISHED", "FINISHED"]
    assert failed.info.run_id in {child.info.run_id for child in children}
    assert children[0].info.run_name == "#1 90.0 % (best) prompt=detailed"
    assert not [child for child in children if "error" in child.data.tags]
    assert [parent.info.status for parent in runs("sweep")] == ["FINISHED"]


def test_a_job_that_left_no_run_has_failed_and_may_be_the_winner(
    place: Path, work: list[str], asked: list[str], capsys: Any
) -> None:
    """As when the MLflow server did not answer while it started."""
    jobs = check_all([[f"prompt={name}"] for name in RIGHT])
    with pytest.raises(JobError, match="1 of 2 jobs failed"), parent_run("sweep", ["prompt"], jobs, 2):
        run_job(jobs[0])
    assert asked == []
    assert "- prompt=detailed: it has no run in MLflow" in runs("sweep")[0].data.tags["mlflow.note.content"]
    with parent_run("sweep", ["prompt"], jobs, 2):
        run_job(jobs[1])
    assert asked == ["short"]


def test_a_picture_that_cannot_be_drawn_does_not_hide_the_ranking(
    place: Path, work: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("reviewtune.sweeps.plots.png_of", lambda _: 1 / 0)
    sweep()
    assert "warning: the sweep's pictures could not be drawn: ZeroDivisionError" in capsys.readouterr().out
    assert runs("sweep")[0].data.tags["best"] == "prompt=short"


def test_a_user_error_leaves_no_traceback_and_the_message_in_the_run(place: Path, work: list[str], capsys: Any) -> None:
    with pytest.raises(JobError, match="2 of 2 jobs failed"):
        sweep("training.seed=666")
    shown = capsys.readouterr()
    assert "job prompt=short failed: no such model; the other jobs continue" in shown.out
    assert "Traceback" not in shown.err
    assert {run.data.tags["error"] for run in runs("job")} == {"ProviderError: no such model"}


def test_ctrl_c_ends_the_sweep_and_the_next_command_continues(
    place: Path, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = check_all([[f"prompt={name}"] for name in RIGHT])

    def interrupted() -> None:
        with parent_run("sweep", ["prompt"], jobs, 2):
            run_job(jobs[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert runs("sweep")[0].info.status == "KILLED"
    with parent_run("sweep", ["prompt"], jobs, 2):
        for job in jobs:
            run_job(job)
    assert work == ["short", "detailed"]
    assert [parent.info.status for parent in runs("sweep")] == ["FINISHED"]


def test_another_sweep_is_another_parent(place: Path, work: list[str]) -> None:
    sweep()
    sweep("training.seed=2")
    assert len(runs("sweep")) == 2
    assert len(runs("job")) == 4


def test_what_a_job_knows_of_its_sweep_survives_the_way_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sweeps_job.SWEEP, raising=False)
    assert Sweep.current() is None
    sweep = Sweep("id", ("prompt", "training.seed"), 4, 1.5, 2)
    sweep.announce()
    assert Sweep.current() == sweep
    monkeypatch.delenv(sweeps_job.SWEEP)


def test_the_time_left_of_a_sweep_needs_several_jobs_of_one_pace() -> None:
    now = time.time()

    def ended(*minutes_ago: float) -> list[RunRecord]:
        return [RunRecord("id", "job", "FINISHED", {}, {}, {}, now - 60 * ago) for ago in minutes_ago]

    sweep = Sweep("id", ("training.seed",), 12, now - 3600, 0)
    assert sweep.seconds_left([]) is None
    assert sweep.seconds_left(ended(33)) is None  # one job took half an hour; the next may be there already
    assert sweep.seconds_left(ended(50, 40, 30, 20, 10)) == pytest.approx(3600, rel=0.05)
    continued = Sweep("id", ("training.seed",), 14, now - 3600, 4)
    assert continued.seconds_left(ended(200, 190, 180, 170, 50, 40, 30, 20, 10)) == pytest.approx(2400, rel=0.05)


def test_a_run_is_found_by_the_first_digits_of_its_id(place: Path, work: list[str], config: Any) -> None:
    sweep()
    (parent,) = runs("sweep")
    assert queries.find_run(config.tracking, parent.info.run_id[:10]).id == parent.info.run_id
