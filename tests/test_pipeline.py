"""The real `dvc repro` in a temporary clone: real server, real training (of a tiny model), real MLflow store.

Tests of one class stand in the order of a user's day: each goes on where the one before stopped.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient

pytestmark = pytest.mark.pipeline
ARMS = ["majority", "linear", "zero_shot", "few_shot", "few_shot_cot", "finetuned"]


class Clone:
    """A user's clone of the project, with an account of its own."""

    def __init__(self, source: Path, folder: Path, base_model: Path) -> None:
        self.folder, self.home = folder, folder.with_name(f"{folder.name}-home")
        names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=source, text=True)
        for name in names.splitlines():
            if (source / name).is_file() and not name.startswith(
                ("reports/", "dvc.lock")
            ):  # the developer's own results
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, folder / name)
        self.env = {**os.environ, "REVIEWTUNE_HOME": str(self.home), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
        self.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.edit("conf/provider/local.yaml", r"base_model: \S+", f"base_model: {base_model}")
        self.edit("conf/config.yaml", "train_size: all", "train_size: 66")
        self.edit("conf/config.yaml", "test: 0.25", "test: 0.1")
        self.edit("conf/training/default.yaml", "n_epochs: 3", "n_epochs: 2")
        self.run("python", "stages/check_config.py", "--write")
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "shrunk"]):
            self.git(*command)

    def run(self, *command: str, ok: bool = True, env: dict[str, str] | None = None) -> str:
        """Output of a command; fails the test when it ends otherwise than expected."""
        done = subprocess.run(
            command, cwd=self.folder, env=env or self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def git(self, *command: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command)

    def repro(self, *options: str) -> list[str]:
        """The stages that ran."""
        return re.findall(r"Running stage '([^']+)'", self.run("dvc", "repro", *options))

    def edit(self, name: str, pattern: str, replacement: str) -> None:
        text, count = re.subn(pattern, replacement, (self.folder / name).read_text())
        assert count, f"{pattern} is not in {name}"
        (self.folder / name).write_text(text)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def runs(self, filter_string: str = "") -> list[Any]:
        client = MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db")
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(ids, filter_string))

    def jobs(self) -> int:
        """Fine-tuning jobs in the account."""
        import sqlite3

        with sqlite3.connect(self.home / "data" / "account.db") as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            (table,) = [name for name in tables if name.rstrip("s") == "job"]
            return int(database.execute(f"select count(*) from {table}").fetchone()[0])

    def end_server(self) -> None:
        announced = self.home / "data" / "server.json"
        if announced.exists():
            process = psutil.Process(json.loads(announced.read_text())["pid"])
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def clone(project: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Clone]:
    clone = Clone(project, tmp_path_factory.mktemp("user") / "clone", tiny_model)
    yield clone
    clone.end_server()


@pytest.fixture(scope="module")
def first_pass(clone: Clone) -> list[str]:
    return clone.repro()


class TestRepro:
    def test_every_stage_runs_and_the_arms_are_compared(self, clone: Clone, first_pass: list[str]) -> None:
        assert first_pass[:1] == ["check_config"]
        assert set(first_pass) >= {"prepare", "split", "format", "finetune", "evaluate", "compare", "baseline@linear"}
        report = clone.json("reports/comparison.json")
        assert [arm["arm"] for arm in report["arms"]] == ARMS
        assert {arm["invalid"] for arm in report["arms"]} == {0}
        assert all(
            arm["accuracy"]["low"] <= arm["accuracy"]["value"] <= arm["accuracy"]["high"] for arm in report["arms"]
        )
        assert len(report["arms"][0]["mlflow_run_id"]) == 32
        for arm in ARMS:
            assert (clone.folder / f"reports/arms/{arm}/confusion_matrix.png").stat().st_size > 10_000

    def test_the_terminal_shows_the_tables(self, clone: Clone, first_pass: list[str]) -> None:
        shown = clone.run("reviewtune", "compare")
        assert all(word in shown for word in ("metric", "improvement", "few_shot_cot", "against zero_shot"))

    def test_every_fine_tune_and_evaluation_is_a_run_with_its_lineage(
        self, clone: Clone, first_pass: list[str]
    ) -> None:
        runs = {run.data.tags["mlflow.runName"]: run for run in clone.runs()}
        assert set(runs) == {*ARMS, "finetune", "comparison"}
        record = clone.json("models/finetuned.json")
        tuned, evaluated = runs["finetune"], runs["finetuned"]
        for run in (tuned, evaluated):
            assert run.info.status == "FINISHED"
            for tag in (
                "git_revision",
                "data_sha256",
                "prompt_fingerprint",
                "job_id",
                "model",
                "provider",
                "DVC_STAGE",
            ):
                assert run.data.tags.get(tag), tag
            assert run.data.tags["model"] == record["model"]
            assert run.data.params["training.n_epochs"] == "2"
            assert {i.dataset.name.partition("/")[0] for i in run.inputs.dataset_inputs} == {"reviews_en"}
        assert evaluated.data.metrics["accuracy"] == pytest.approx(
            clone.json("reports/arms/finetuned/metrics.json")["accuracy"]["value"], abs=1e-6
        )

    def test_the_loss_curve_stands_in_the_run_by_step(self, clone: Clone, first_pass: list[str]) -> None:
        client = MlflowClient(f"sqlite:///{clone.folder}/mlruns/mlflow.db")
        (run,) = clone.runs("tags.kind = 'finetune'")
        for name in ("train_loss", "full_valid_loss"):
            history = client.get_metric_history(run.info.run_id, name)
            assert len({point.step for point in history}) == len(history) >= 2
        artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert artifacts >= {
            "params.yaml",
            "finetuned.json",
            "training_curve.csv",
            "training_curve.png",
            "model_id.txt",
        }
        path = client.download_artifacts(run.info.run_id, "params.yaml")
        assert Path(path).read_text() == (clone.folder / "params.yaml").read_text()

    def test_the_runs_of_one_pass_are_found_together(self, clone: Clone, first_pass: list[str]) -> None:
        (comparison,) = clone.runs("tags.kind = 'comparison'")
        together = clone.runs(f"tags.passes LIKE '%{comparison.info.run_id[:12]}%'")
        assert len(together) == len(ARMS) + 2

    def test_again_and_nothing_runs(self, clone: Clone, first_pass: list[str]) -> None:
        assert clone.repro() == []

    def test_git_sees_only_results(self, clone: Clone, first_pass: list[str]) -> None:
        changed = clone.git("status", "--short", "--untracked-files=normal").splitlines()
        assert {line.split()[-1] for line in changed} <= {"dvc.lock", "reports/"}
        clone.git("add", "-A")
        clone.git("commit", "-qm", "first results")


class TestChanges:
    """Only what is stale runs."""

    def test_another_number_of_epochs(self, clone: Clone, first_pass: list[str]) -> None:
        clone.edit("conf/training/default.yaml", "n_epochs: 2", "n_epochs: 1")
        message = clone.run("dvc", "repro", ok=False)
        assert "params.yaml is not what conf/ says" in message
        assert "Running stage 'prepare'" not in message
        clone.run("python", "stages/check_config.py", "--write")
        assert clone.repro() == ["check_config", "finetune", "evaluate", "compare"]
        assert "n_epochs" in clone.run("dvc", "params", "diff")
        assert "reports/arms/finetuned/metrics.json" in clone.run("dvc", "metrics", "diff", "--all")

    def test_back_again_restores_without_running_or_training(self, clone: Clone, first_pass: list[str]) -> None:
        jobs = clone.jobs()
        clone.edit("conf/training/default.yaml", "n_epochs: 1", "n_epochs: 2")
        clone.run("python", "stages/check_config.py", "--write")
        clone.repro()
        assert clone.jobs() == jobs

    def test_one_changed_review_runs_everything_downstream(self, clone: Clone, first_pass: list[str]) -> None:
        clone.edit("data/raw/reviews_en.csv", "it came. Fresh, green", "it came. Fresh, very green")
        ran = clone.repro()
        assert ran[0] == "prepare"
        assert "split" in ran
        clone.git("checkout", "-q", "data/raw/reviews_en.csv")

    def test_a_fault_in_the_data_is_one_line_and_nothing_is_lost(self, clone: Clone, first_pass: list[str]) -> None:
        before = (clone.folder / "reports/comparison.json").read_bytes()
        clone.edit("data/raw/reviews_en.csv", ",delivery_delay,delivery_delay,hay", ",delivery_dely,delivery_delay,hay")
        message = clone.run("dvc", "repro", ok=False)
        assert "did you mean 'delivery_delay'?" in message
        assert "Traceback" not in message
        assert (clone.folder / "reports/comparison.json").read_bytes() == before
        clone.git("checkout", "-q", "data/raw/reviews_en.csv")

    def test_plots_are_drawn(self, clone: Clone, first_pass: list[str]) -> None:
        clone.run("dvc", "plots", "show", "--out", "plots")
        page = (clone.folder / "plots/index.html").read_text()
        assert all(title in page for title in ("Accuracy by arm", "Confusion of the fine-tuned model"))
        shutil.rmtree(clone.folder / "plots")


class TestKill:
    def test_kill_9_of_the_fine_tune_and_the_same_command_again(self, clone: Clone, first_pass: list[str]) -> None:
        """The job is found, not created again, and its run in MLflow is continued, not doubled."""
        clone.edit("conf/training/default.yaml", "n_epochs: 2", "n_epochs: 30")
        clone.run("python", "stages/check_config.py", "--write")
        jobs, runs = clone.jobs(), len(clone.runs("tags.kind = 'finetune'"))
        process = subprocess.Popen(
            ["dvc", "repro", "finetune"],
            cwd=clone.folder,
            env=clone.env,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while clone.jobs() == jobs and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert clone.jobs() == jobs + 1
        assert "finetune" in clone.repro("finetune")
        assert clone.jobs() == jobs + 1
        assert len(clone.runs("tags.kind = 'finetune'")) == runs + 1
        assert not clone.runs("attributes.status = 'RUNNING'")
        clone.edit("conf/training/default.yaml", "n_epochs: 30", "n_epochs: 2")
        clone.run("python", "stages/check_config.py", "--write")
        clone.git("checkout", "-q", ".")


class TestExperiments:
    def test_exp_run_with_an_override(self, clone: Clone, first_pass: list[str]) -> None:
        clone.run("dvc", "exp", "run", "-n", "one-epoch", "-S", "training.n_epochs=1")
        shown = json.loads(clone.run("dvc", "exp", "show", "--json"))
        assert "one-epoch" in json.dumps(shown)
        clone.git("checkout", "-q", ".")

    def test_exp_run_in_a_temporary_folder_tracks_into_the_same_store(
        self, clone: Clone, first_pass: list[str]
    ) -> None:
        before = len(clone.runs())
        clone.run("dvc", "exp", "run", "--temp", "-n", "korean", "-S", "data=reviews_ko")
        korean = [run for run in clone.runs() if run.data.tags.get("data") == "reviews_ko"]
        assert len(clone.runs()) > before
        assert {run.data.tags["DVC_EXP_NAME"] for run in korean} == {"korean"}

    def test_the_queue(self, clone: Clone, first_pass: list[str]) -> None:
        clone.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "training.seed=7")
        clone.run("dvc", "exp", "run", "--run-all")
        assert re.search(r"queued\s+.*Success", clone.run("dvc", "queue", "status"))

    @pytest.mark.parametrize("override", ["training.n_epochs=0", "training.epochs=3", "data=nope"])
    def test_a_faulty_override_stops_before_any_stage(self, clone: Clone, first_pass: list[str], override: str) -> None:
        message = clone.run("dvc", "exp", "run", "-S", override, ok=False)
        assert "Running stage 'prepare'" not in message
        assert override.partition("=")[0].rpartition(".")[2] in message
        clone.git("checkout", "-q", ".")


class TestSweep:
    COMMAND = ("python", "stages/sweep.py", "--multirun", "prompt=short,detailed", "training.n_epochs=1")

    def test_children_of_one_parent_and_a_ranked_table(self, clone: Clone, first_pass: list[str]) -> None:
        shown = clone.run(*self.COMMAND)
        assert "sweep, best first" in shown
        (parent,) = clone.runs("tags.kind = 'sweep'")
        children = clone.runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        assert {child.data.params["prompt.name"] for child in children} == {"short", "detailed"}
        assert {child.info.status for child in [parent, *children]} == {"FINISHED"}
        assert parent.data.metrics["best_accuracy"] == max(child.data.metrics["accuracy"] for child in children)

    def test_the_same_sweep_again_trains_nothing(self, clone: Clone, first_pass: list[str]) -> None:
        jobs = clone.jobs()
        clone.run(*self.COMMAND)
        assert clone.jobs() == jobs

    def test_a_bad_combination_is_refused_before_job_0(self, clone: Clone, first_pass: list[str]) -> None:
        jobs, runs = clone.jobs(), len(clone.runs())
        message = clone.run("python", "stages/sweep.py", "--multirun", "training.n_epochs=1,2,0", ok=False)
        assert "1 of 3 combinations" in message
        assert "training.n_epochs=0" in message
        assert "Traceback" not in message
        assert (clone.jobs(), len(clone.runs())) == (jobs, runs)


class TestClassify:
    def test_new_reviews_from_a_csv(self, clone: Clone, first_pass: list[str], tmp_path: Path) -> None:
        clone.repro()
        (tmp_path / "new.csv").write_text('id,comment\n1,"Still waiting, no parcel"\n2,Broken glass\n3,\n')
        out = tmp_path / "sorted.csv"
        clone.run("reviewtune", "classify", str(tmp_path / "new.csv"), "--out", str(out), "--text-column", "comment")
        lines = out.read_text().splitlines()
        assert lines[0] == "id,comment,issue"
        labels = yaml.safe_load((clone.folder / "params.yaml").read_text())["data"]["labels"]
        assert [line.rpartition(",")[2] in labels for line in lines[1:]] == [True, True, False]


class TestReproducible:
    def test_two_clones_give_the_same_bytes(
        self,
        clone: Clone,
        first_pass: list[str],
        project: Path,
        tmp_path_factory: pytest.TempPathFactory,
        tiny_model: Path,
    ) -> None:
        """dvc.lock is equal but for what is volatile by name: run.json, and what compare makes of it."""
        other = Clone(project, tmp_path_factory.mktemp("other") / "clone", tiny_model)
        try:
            other.repro()
        finally:
            other.end_server()
        locks = [yaml.safe_load((one.folder / "dvc.lock").read_text())["stages"] for one in (clone, other)]
        stable = [{name: _outs(stage) for name, stage in lock.items() if name != "compare"} for lock in locks]
        assert stable[0] == stable[1]
        assert sum(map(len, stable[0].values())) > 25


def _outs(stage: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in stage.get("outs", []) if not out["path"].endswith("run.json")}
