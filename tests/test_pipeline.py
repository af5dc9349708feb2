"""The real `dvc repro` in a clone: real server, real training (of a tiny model), real MLflow store.

The tests of a class follow a user's day: each continues where the one before stopped. The next class starts from the
first results.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from tests.support.clones import Clone, FirstPass, stages_run

pytestmark = pytest.mark.pipeline
ARMS = ["majority", "linear", "zero_shot", "few_shot", "few_shot_cot", "finetuned"]


@pytest.fixture(scope="class", autouse=True)
def _put_back(clone: Clone) -> Iterator[None]:
    yield
    clone.put_back()


class TestRepro:
    def test_every_stage_runs_and_the_arms_are_compared(self, clone: Clone, first_pass: FirstPass) -> None:
        ran = stages_run(first_pass.shown)
        assert ran[:1] == ["check_config"]
        assert set(ran) >= {"prepare", "split", "format", "finetune", "evaluate", "compare", "baseline@linear"}
        report = clone.json("reports/comparison.json")
        assert [arm["arm"] for arm in report["arms"]] == ARMS
        assert {arm["invalid"] for arm in report["arms"]} == {0}
        assert all(
            arm["accuracy"]["low"] <= arm["accuracy"]["value"] <= arm["accuracy"]["high"] for arm in report["arms"]
        )
        assert len(report["arms"][0]["mlflow_run_id"]) == 32
        for arm in ARMS:
            assert (clone.folder / f"reports/arms/{arm}/confusion_matrix.png").stat().st_size > 10_000

    def test_the_terminal_shows_the_tables(self, clone: Clone) -> None:
        shown = clone.run("reviewtune", "compare")
        assert all(word in shown for word in ("metric", "improvement", "few_shot_cot", "against zero_shot"))

    def test_every_fine_tune_and_evaluation_is_a_run_with_its_lineage(self, clone: Clone) -> None:
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

    def test_the_loss_curve_is_in_the_run_by_step(self, clone: Clone) -> None:
        client = MlflowClient(f"sqlite:///{clone.folder}/mlruns/mlflow.db")
        (run,) = clone.runs("tags.kind = 'finetune'")
        for name in ("train_loss", "full_valid_loss"):
            history = client.get_metric_history(run.info.run_id, name)
            assert len({point.step for point in history}) == len(history) >= 2
        curve = pd.read_csv(clone.folder / "reports/training_curve.csv").set_index("step")["full_valid_loss"].dropna()
        kept = {point["step"]: point["valid_loss"] for point in clone.json("models/finetuned.json")["checkpoints"]}
        assert {step: loss for step, loss in curve.items() if step in kept} == pytest.approx(kept)
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

    def test_the_runs_of_one_pass_are_found_together(self, clone: Clone) -> None:
        (comparison,) = clone.runs("tags.kind = 'comparison'")
        together = clone.runs(f"tags.passes LIKE '%{comparison.info.run_id[:12]}%'")
        assert len(together) == len(ARMS) + 2
        assert comparison.data.tags["mlflow.note.content"].startswith("# Comparison")

    def test_again_and_nothing_runs(self, clone: Clone) -> None:
        assert clone.repro() == []

    def test_git_sees_only_results(self, clone: Clone) -> None:
        changed = clone.git("status", "--short", "--untracked-files=normal").splitlines()
        assert {line.split()[-1] for line in changed} <= {"dvc.lock", "reports/"}


class TestChanges:
    """Only what is stale runs."""

    def test_another_number_of_epochs(self, committed: Clone) -> None:
        committed.set_epochs(1)
        message = committed.run("dvc", "repro", ok=False)
        assert "params.yaml is not what conf/ says" in message
        assert "Running stage 'prepare'" not in message
        committed.write_params()
        assert committed.repro() == ["check_config", "finetune", "evaluate", "compare"]
        assert "n_epochs" in committed.run("dvc", "params", "diff")
        differences = committed.run("dvc", "metrics", "diff", "--all")
        assert "reports/arms/finetuned/summary.json" in differences
        assert len(differences.splitlines()) < 80  # seven numbers per arm

    def test_back_again_restores_without_running_or_training(self, committed: Clone) -> None:
        jobs = committed.jobs()
        committed.set_epochs(2)
        committed.write_params()
        committed.repro()
        assert committed.jobs() == jobs

    def test_one_changed_review_runs_everything_downstream(self, committed: Clone) -> None:
        committed.edit("data/raw/reviews_en.csv", "it came. Fresh, green", "it came. Fresh, very green")
        assert committed.repro("split") == ["prepare", "split"]
        stale = set(json.loads(committed.run("dvc", "status", "--json")))
        assert stale >= {"finetune", "evaluate", *(f"baseline@{arm}" for arm in ARMS[:-1])}
        committed.git("checkout", "-q", "data/raw/reviews_en.csv")

    def test_a_fault_in_the_data_is_one_line_and_nothing_is_lost(self, committed: Clone) -> None:
        before = (committed.folder / "reports/comparison.json").read_bytes()
        committed.edit(
            "data/raw/reviews_en.csv", ",delivery_delay,delivery_delay,hay", ",delivery_dely,delivery_delay,hay"
        )
        message = committed.run("dvc", "repro", ok=False)
        assert "did you mean 'delivery_delay'?" in message
        assert "Traceback" not in message
        assert (committed.folder / "reports/comparison.json").read_bytes() == before
        committed.git("checkout", "-q", "data/raw/reviews_en.csv")

    def test_plots_are_drawn(self, committed: Clone) -> None:
        committed.run("dvc", "plots", "show", "--out", "plots")
        page = (committed.folder / "plots/index.html").read_text()
        assert all(title in page for title in ("Accuracy by arm", "Confusion of the fine-tuned model"))
        shutil.rmtree(committed.folder / "plots")


class TestCheckpoints:
    def test_each_epoch_that_is_asked_for_is_an_arm_of_its_own(self, committed: Clone) -> None:
        """Nothing is trained or asked again for the other arms."""
        jobs, runs = committed.jobs(), len(committed.runs("tags.kind = 'finetune'"))
        committed.run("dvc", "exp", "run", "-S", "evaluation.checkpoints=[1,2]")
        points = committed.json("models/finetuned.json")["checkpoints"]
        report = committed.json("reports/comparison.json")
        arms = {arm["arm"]: arm for arm in report["arms"]}
        assert list(arms) == [*ARMS[:-1], "checkpoint_1", "checkpoint_2", "finetuned"]
        for epoch, point in zip((1, 2), points, strict=True):
            arm = arms[f"checkpoint_{epoch}"]
            assert (arm["model"], arm["checkpoint"]["step"]) == (point["model"], point["step"])
            assert arm["against_reference"]["holm_p"] >= arm["against_reference"]["mcnemar_p"]
            (run,) = committed.runs(f"attributes.run_id = '{arm['mlflow_run_id']}'")
            assert run.data.tags["model"] == point["model"]
        assert arms["checkpoint_2"]["accuracy"] == arms["finetuned"]["accuracy"]  # the last epoch's is the model
        assert (committed.jobs(), len(committed.runs("tags.kind = 'finetune'"))) == (jobs, runs)
        assert "checkpoint_2: the model after epoch 2" in committed.run("reviewtune", "compare")


class TestKill:
    def test_kill_9_of_the_fine_tune_and_the_same_command_again(self, committed: Clone) -> None:
        """The job is found again, not created twice, and its run in MLflow is continued."""
        committed.set_epochs(8)
        committed.write_params()
        jobs, runs = committed.jobs(), len(committed.runs("tags.kind = 'finetune'"))
        process = committed.start("dvc", "repro", "finetune")
        deadline = time.monotonic() + 60
        while committed.jobs() == jobs and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert committed.jobs() == jobs + 1
        assert "finetune" in committed.repro("finetune")
        assert committed.jobs() == jobs + 1
        assert len(committed.runs("tags.kind = 'finetune'")) == runs + 1
        assert not committed.runs("attributes.status = 'RUNNING'")


class TestClassify:
    def test_new_reviews_from_a_csv(self, committed: Clone, tmp_path: Path) -> None:
        (tmp_path / "new.csv").write_text('id,comment\n1,"Still waiting, no parcel"\n2,Broken glass\n3,\n')
        out = tmp_path / "sorted.csv"
        committed.run(
            "reviewtune", "classify", str(tmp_path / "new.csv"), "--out", str(out), "--text-column", "comment"
        )
        lines = out.read_text().splitlines()
        assert lines[0] == "id,comment,issue"
        labels = yaml.safe_load((committed.folder / "params.yaml").read_text())["data"]["labels"]
        assert [line.rpartition(",")[2] in labels for line in lines[1:]] == [True, True, False]


class TestReproducible:
    def test_two_clones_give_the_same_lock(self, first_pass: FirstPass) -> None:
        """dvc.lock is equal to the byte except for what is volatile: run.json, and what compare makes of it."""
        locks = [_stable(clone.folder / "dvc.lock") for clone in (first_pass.first, first_pass.second)]
        assert locks[0] == locks[1]
        assert locks[0].count("md5:") > 100


def _stable(lock: Path) -> str:
    """The file without the hashes of what is volatile: each run.json, the folder that holds them, compare's tables."""
    tree = yaml.safe_load(lock.read_text())
    for file in [file for stage in tree["stages"].values() for file in [*stage["deps"], *stage["outs"]]]:
        if file["path"] == "reports/arms" or file["path"].endswith("run.json") or "/comparison." in file["path"]:
            del file["md5"], file["size"]
    return yaml.safe_dump(tree, sort_keys=False)
