"""`dvc exp run` and sweeps in a clone where the pipeline has run once: real server, real training of a tiny model."""

import csv
import json
import re
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.support.clones import Clone, stages_run

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="class", autouse=True)
def _put_back(committed: Clone) -> Iterator[None]:
    yield
    committed.put_back()


class TestExperiments:
    def test_exp_run_with_an_override(self, committed: Clone) -> None:
        shown = committed.run("dvc", "exp", "run", "-n", "few-resamples", "-S", "evaluation.resamples=500")
        assert stages_run(shown) == ["check_config", "compare"]
        assert yaml.safe_load((committed.folder / "params.yaml").read_text())["evaluation"]["resamples"] == 500
        assert "few-resamples" in json.dumps(json.loads(committed.run("dvc", "exp", "show", "--json")))
        committed.git("checkout", "-q", ".")

    def test_exp_run_in_a_temporary_folder_tracks_into_the_same_store(self, committed: Clone) -> None:
        before = len(committed.runs())
        committed.run("dvc", "exp", "run", "--temp", "-n", "korean", "-S", "data=reviews_ko", "evaluate")
        korean = [run for run in committed.runs() if run.data.tags.get("data") == "reviews_ko"]
        assert {run.data.tags["kind"] for run in korean} == {"finetune", "evaluation"}
        assert len(committed.runs()) == before + 2
        assert {run.data.tags["DVC_EXP_NAME"] for run in korean} == {"korean"}

    def test_the_queue(self, committed: Clone) -> None:
        committed.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "training.n_epochs=1", "finetune")
        committed.run("dvc", "exp", "run", "--run-all")
        assert re.search(r"queued\s+.*Success", committed.run("dvc", "queue", "status"))
        (run,) = [run for run in committed.runs() if run.data.tags.get("DVC_EXP_NAME") == "queued"]
        assert run.data.params["training.n_epochs"] == "1"
        rows = csv.DictReader(committed.run("dvc", "exp", "show", "--csv").splitlines(keepends=True))
        (row,) = [row for row in rows if row["Experiment"] == "queued"]
        assert row["models/run.json:mlflow_run_id"] == run.info.run_id

    @pytest.mark.parametrize("override", ["training.n_epochs=0", "training.epochs=3", "data=nope"])
    def test_a_faulty_override_stops_before_any_stage(self, committed: Clone, override: str) -> None:
        message = committed.run("dvc", "exp", "run", "-S", override, ok=False)
        assert "Running stage 'prepare'" not in message
        assert override.partition("=")[0].rpartition(".")[2] in message
        committed.git("checkout", "-q", ".")


class TestSweep:
    """More on sweeps, such as the same command again, is in tests/sweeps/test_sweep.py."""

    COMMAND = ("python", "stages/sweep.py", "--multirun", "prompt=short,detailed", "training.n_epochs=1")

    def test_children_of_one_parent_and_a_ranked_table(self, committed: Clone) -> None:
        shown = committed.run(*self.COMMAND)
        assert "sweep, best first" in shown
        (parent,) = committed.runs("tags.kind = 'sweep'")
        children = committed.runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        assert {child.data.params["prompt.name"] for child in children} == {"short", "detailed"}
        assert {child.info.status for child in [parent, *children]} == {"FINISHED"}
        best = max(child.data.metrics["validation_accuracy"] for child in children)
        assert parent.data.metrics["best_validation_accuracy"] == best
        asked = [child.info.run_id for child in children if "accuracy" in child.data.metrics]
        assert asked == [parent.data.tags["best_run"]]  # nobody but the winner was asked about the test split

    def test_the_winner_applied_leaves_repro_nothing_to_train(self, committed: Clone) -> None:
        """Its settings, model and numbers are in the workspace; the fine-tune and the answers are found again."""
        (parent,) = committed.runs("tags.kind = 'sweep'")
        winner, jobs = parent.data.tags["best_run"], committed.jobs()
        (run,) = [run for run in committed.runs("tags.kind = 'job'") if run.info.run_id == winner]
        committed.run("reviewtune", "apply", winner)
        assert committed.repro() == []
        assert committed.jobs() == jobs
        assert committed.json("models/finetuned.json")["model"] == run.data.tags["model"]
        accuracy = committed.json("reports/arms/finetuned/metrics.json")["accuracy"]["value"]
        assert accuracy == pytest.approx(run.data.metrics["accuracy"])
        committed.put_back()

    def test_clean_and_dvc_gc_take_nothing_that_is_needed(self, committed: Clone) -> None:
        """The loser's model goes; the committed results stay whole, and what comes after finds all it needs."""
        runs = {run.info.run_id for run in committed.runs()}
        committed.run("reviewtune", "clean", "--apply")
        committed.run("dvc", "gc", "-w", "-f")
        assert committed.repro() == []
        assert "against zero_shot" in committed.run("reviewtune", "compare")
        assert {run.info.run_id for run in committed.runs()} == runs
        assert "would be removed:\n        0.0 MB  0 runs of" in committed.run("reviewtune", "clean")
        shutil.rmtree(committed.folder / "data" / "splits")
        committed.run("dvc", "checkout")
        assert committed.repro() == []

    def test_a_bad_combination_is_refused_before_job_0(self, committed: Clone) -> None:
        jobs, runs = committed.jobs(), len(committed.runs())
        message = committed.run("python", "stages/sweep.py", "--multirun", "training.n_epochs=1,2,0", ok=False)
        assert "1 of 3 combinations" in message
        assert "training.n_epochs=0" in message
        assert "Traceback" not in message
        assert (committed.jobs(), len(committed.runs())) == (jobs, runs)
