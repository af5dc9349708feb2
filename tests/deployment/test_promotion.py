"""`reviewtune promote`, `champion`, `rollback` as a person runs them, in a project whose candidate is a linear arm."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reviewtune.analyzer.served_model import read_served_model
from tests.deployment.conftest import reviewtune
from tests.support.clones import Clone

LOAD = """
import mlflow, pandas as pd, sys
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/reviewtune-reviews_en@champion")
answers = model.predict(pd.DataFrame({"text": ["The parcel arrived two weeks late."]}))
print(answers.to_json(orient="records"))
print(sys.modules["reviewtune"].__file__)
"""


def registry(clone: Clone) -> Any:
    """MLflow's own client."""
    from mlflow import MlflowClient

    address = f"sqlite:///{clone.folder}/mlruns/mlflow.db"
    return MlflowClient(tracking_uri=address, registry_uri=address)


def worse_linear_arm(clone: Clone) -> None:
    """Evaluate the linear arm again, after it has learned from 40 reviews only."""
    clone.edit("conf/config.yaml", "train_size: all", "train_size: 40")
    clone.write_params()
    stages = "import runpy, sys\n" + "\n".join(
        f"sys.argv = {words!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
        for words in (["stages/split.py"], ["stages/baseline.py", "linear"])
    )
    clone.run("python", "-c", stages)
    clone.commit("fewer reviews")


@pytest.fixture(scope="module")
def promoted(evaluated: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy in which the linear arm is champion."""
    evaluated.home.mkdir(exist_ok=True)
    copy = evaluated.copy(tmp_path_factory.mktemp("promoted") / "project")
    copy.env["PYTHONPATH"] = str(copy.folder)
    copy.said = reviewtune(copy, "promote", "--arm", "linear")  # type: ignore[attr-defined]
    copy.run("git", "add", "-A")
    copy.commit("frozen sides")
    return copy


def test_a_candidate_that_holds_the_gates_becomes_champion(promoted: Clone) -> None:
    said = promoted.said  # type: ignore[attr-defined]
    assert "promoted: reviewtune-reviews_en version 1 is champion" in said
    report = promoted.json("reports/gates.json")
    outcomes = {gate["name"]: gate["outcome"] for gate in report["gates"]}
    assert report["decision"] == "promoted"
    assert report["candidate"]["version"] == 1
    assert report["opponent"]["arm"] == "majority"
    assert set(outcomes.values()) == {"passed"}
    assert set(outcomes) == {
        "reference", "unusable answers", "hostile reviews", "latency", "cost", "calibration", "training data", "git",
    }  # fmt: skip
    assert (promoted.folder / "data" / "frozen_splits.csv").exists()


def test_the_version_leads_to_its_origin(promoted: Clone) -> None:
    version = registry(promoted).get_model_version_by_alias("reviewtune-reviews_en", "champion")
    run_id = promoted.json("reports/arms/linear/run.json")["mlflow_run_id"]
    manifest = promoted.json("data/splits/manifest.json")
    (run,) = [run for run in promoted.runs() if run.info.run_id == run_id]
    assert version.run_id == run_id
    assert version.tags["git_revision"] == run.data.tags["git_revision"]
    assert version.tags["data_sha256"] == manifest["data_sha256"]
    assert version.tags["test_sha256"] == manifest["splits"]["test"]["sha256"]
    assert run.data.tags["gates"] == "promoted"
    assert run.data.tags["gate.reference"] == "passed"
    assert run.data.tags["registered_version"] == "1"
    lineage = reviewtune(promoted, "lineage", run_id[:12])
    assert "application: reviewtune-reviews_en version 1, champion, since 2" in lineage


def test_mlflow_loads_the_champion_with_the_code_that_is_stored_with_it(promoted: Clone, tmp_path: Path) -> None:
    address = f"sqlite:///{promoted.folder}/mlruns/mlflow.db"
    env = {name: value for name, value in promoted.env.items() if name != "PYTHONPATH"}
    said = subprocess.check_output([sys.executable, "-c", LOAD, address], cwd=tmp_path, env=env, text=True)
    answers, place = said.strip().splitlines()[-2:]
    (answer,) = json.loads(answers)
    assert answer["label"] == "delivery_delay"
    assert 0.5 < answer["confidence"] <= 1
    assert answer["why"] is None
    assert Path(place).is_relative_to(promoted.folder / "mlruns")


def test_the_champion_again_changes_nothing(promoted: Clone) -> None:
    assert "already champion: reviewtune-reviews_en version 1" in reviewtune(promoted, "promote", "--arm", "linear")
    assert [int(one.version) for one in registry(promoted).search_model_versions()] == [1]


def test_the_folder_can_be_copied(promoted: Clone, tmp_path: Path) -> None:
    said = reviewtune(promoted, "champion", "--history", "--out", str(tmp_path / "champion"))
    assert "reviewtune-reviews_en version 1" in said
    assert "promotion" in said
    served = read_served_model(tmp_path / "champion")
    assert (served.kind, served.arm, served.name) == ("linear", "linear", "reviewtune-reviews_en")
    assert served.calibration is not None
    assert served.threshold is not None
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    refused = reviewtune(promoted, "champion", "--out", str(tmp_path / "full"), ok=False)
    assert "exists already; name a folder that does not exist or is empty" in refused
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


def test_a_worse_candidate_is_refused_forced_and_rolled_back(promoted: Clone, tmp_path: Path) -> None:
    clone = promoted.copy(tmp_path / "project")
    clone.env["PYTHONPATH"] = str(clone.folder)
    worse_linear_arm(clone)
    refused = reviewtune(clone, "promote", "--arm", "linear", ok=False)
    assert "not promoted: accuracy" in refused
    report = clone.json("reports/gates.json")
    assert report["decision"] == "refused"
    assert report["opponent"]["version"] == 1
    accuracy = {gate["name"]: gate for gate in report["gates"]}["accuracy"]
    assert accuracy["outcome"] == "failed"
    assert accuracy["value"] < accuracy["limit"] == -0.02
    assert "--force needs --reason" in reviewtune(clone, "promote", "--arm", "linear", "--force", ok=False)
    forced = ("promote", "--arm", "linear", "--force", "--reason", "the labels changed", "--json")
    assert json.loads(_json_of(clone, *forced))["forced"] is True
    assert "version 2" in reviewtune(clone, "champion")
    reviewtune(clone, "rollback", "--reason", "it was worse")
    refused = reviewtune(clone, "promote", "--arm", "linear", ok=False)
    assert refused.startswith("error: reviewtune-reviews_en: this model is version 2, from which ")
    assert "(it was worse); promote another model, or this one again with `--force --reason TEXT`" in refused
    assert len(refused.splitlines()) == 1
    said = reviewtune(clone, "champion", "--history")
    assert "version 1" in said.splitlines()[0]
    flat = " ".join(said.split())
    assert "it was worse" in flat
    assert "(forced)" in flat
    again = ("promote", "--arm", "linear", "--force", "--reason", "it was the data")
    assert "version 3 is champion, forced: it was the data" in reviewtune(clone, *again)
    assert "rollback" in registry(clone).get_model_version("reviewtune-reviews_en", "3").tags["gates"]


def _json_of(clone: Clone, *words: str) -> str:
    """Standard output alone."""
    command = ["python", "-m", "reviewtune", *words]
    return subprocess.run(
        command,
        cwd=clone.folder,
        env=clone.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    ).stdout


def test_check_examines_the_gates_and_promotes_nothing(linear_project: Clone) -> None:
    said = reviewtune(linear_project, "promote", "--arm", "linear", "--check")
    assert "all gates passed, nothing was promoted: `reviewtune promote` makes it the champion" in said
    assert linear_project.json("reports/gates.json")["decision"] == "passed"
    assert registry(linear_project).search_registered_models() == []
    assert linear_project.git("status", "--porcelain", "--", "data") == "", "no side was frozen"
    said = reviewtune(linear_project, "promote", "--check", "--force", "--reason", "now", ok=False)
    assert "--check promotes nothing, so there is nothing to force" in said


def test_uncommitted_changes_and_too_strict_limits_refuse(linear_project: Clone) -> None:
    linear_project.edit("conf/promotion/default.yaml", "min_resisted: 0.6", "min_resisted: 0.99")
    linear_project.write_params()
    refused = reviewtune(linear_project, "promote", "--arm", "linear", ok=False)
    assert "not promoted: hostile reviews, git failed" in refused
    assert registry(linear_project).search_registered_models() == []
    assert linear_project.git("status", "--porcelain", "--", "data") == "", "no side was frozen"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arm", "majority"], "always gives the most frequent label: there is nothing to promote"),
        (["--arm", "nobody"], "arm 'nobody' is not one of: majority, linear"),
        ([], "has no evaluation of arm finetuned: `dvc repro` writes it"),
        (["abcdef"], "no run with that id"),
    ],
)
def test_what_cannot_be_promoted_is_one_line(promoted: Clone, words: list[str], message: str) -> None:
    said = reviewtune(promoted, "promote", *words, ok=False)
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_run_can_be_promoted_by_its_id(linear_project: Clone) -> None:
    """After another evaluation took its place in reports/, it is asked again, and answers the same."""
    then = linear_project.json("reports/arms/linear/metrics.json")["accuracy"]["value"]
    run_id = linear_project.json("reports/arms/linear/run.json")["mlflow_run_id"]
    linear_project.run("rm", "-r", "reports/arms/linear")
    linear_project.commit("gone")
    assert "version 1 is champion" in reviewtune(linear_project, "promote", run_id[:12])
    assert linear_project.json("reports/gates.json")["candidate"]["accuracy"] == then


def test_new_files_count_where_they_make_results(linear_project: Clone) -> None:
    (linear_project.folder / "notes.txt").write_text("mine")
    (linear_project.folder / "conf" / "arm" / "mine.yaml").write_text("kind: linear\n")
    refused = " ".join(reviewtune(linear_project, "promote", "--arm", "linear", ok=False).split())
    assert "not promoted: git failed; commit these files and run the command again; `--force" in refused
    gates = {gate["name"]: gate for gate in linear_project.json("reports/gates.json")["gates"]}
    assert gates["git"]["seen"] == "not committed: conf/arm/mine.yaml"


def test_what_was_not_committed_when_it_was_evaluated_must_be_committed_now(linear_project: Clone) -> None:
    """Evaluating a change first and committing it later is usual; a change that is gone cannot be found again."""
    source = linear_project.folder / "reviewtune" / "evaluation" / "linear_baseline.py"
    committed = source.read_text()
    source.write_text(committed + "# tried\n")
    linear_project.run("python", "stages/baseline.py", "linear")
    linear_project.commit("results, and what was tried")
    run_id = linear_project.json("reports/arms/linear/run.json")["mlflow_run_id"]
    tags = next(run.data.tags for run in linear_project.runs() if run.info.run_id == run_id)
    assert tags["git_dirty"] == "reviewtune/evaluation/linear_baseline.py"
    source.write_text(committed)
    linear_project.commit("back")
    refused = " ".join(reviewtune(linear_project, "promote", "--arm", "linear", ok=False).split())
    assert "not promoted: git failed; `--force" in refused
    gates = {gate["name"]: gate for gate in linear_project.json("reports/gates.json")["gates"]}
    assert "not committed, in reviewtune/evaluation/linear_baseline.py, and they are gone" in gates["git"]["seen"]
    linear_project.git("checkout", "-q", ".")
    source.write_text(committed + "# tried\n")
    linear_project.commit("as it was evaluated")
    assert "version 1 is champion" in reviewtune(linear_project, "promote", "--arm", "linear")


def test_stale_splits_are_refused_before_anything_is_measured(linear_project: Clone) -> None:
    linear_project.edit("conf/config.yaml", "test: 0.25", "test: 0.3")
    linear_project.write_params()
    refused = reviewtune(linear_project, "promote", "--arm", "linear", ok=False)
    assert "is not what" in refused
    assert "dvc repro split" in refused
    assert not (linear_project.folder / "reports" / "gates.json").exists()


def test_a_rollback_from_another_version_names_the_champion(promoted: Clone) -> None:
    refused = reviewtune(promoted, "rollback", "--from", "2", ok=False)
    assert refused.startswith("error: --from 2: version 1 is champion (since 2")
    assert refused.strip().endswith("so nothing was changed")


def test_what_cannot_be_noted_after_the_change_does_not_hide_it(linear_project: Clone) -> None:
    (linear_project.folder / "reports" / "gates.json").mkdir()
    said = reviewtune(linear_project, "promote", "--arm", "linear")
    assert "promoted: reviewtune-reviews_en version 1 is champion" in said
    assert "promoted, but not noted: " in said
    assert "version 1" in reviewtune(linear_project, "champion")


def test_the_version_of_an_interrupted_promotion_gets_the_gates_of_now(promoted: Clone, tmp_path: Path) -> None:
    clone = promoted.copy(tmp_path / "project")
    clone.env["PYTHONPATH"] = str(clone.folder)
    client = registry(clone)
    client.delete_registered_model_alias("reviewtune-reviews_en", "champion")
    client.set_model_version_tag("reviewtune-reviews_en", "1", "gates", "failed: git")
    said = reviewtune(clone, "promote", "--arm", "linear")
    assert "version 1 is champion" in said
    assert "commit it" not in said, "no review was frozen newly"
    assert registry(clone).get_model_version("reviewtune-reviews_en", "1").tags["gates"] == "passed"


def test_a_run_of_another_training_split_is_refused(linear_project: Clone) -> None:
    """With the training reviews of now it would be another model than the one that was scored."""
    run_id = linear_project.json("reports/arms/linear/run.json")["mlflow_run_id"]
    worse_linear_arm(linear_project)
    said = reviewtune(linear_project, "promote", run_id[:12], ok=False)
    assert f"error: run {run_id[:12]} answered with training split" in said
    assert "with these reviews it is another model; `dvc repro` scores that one" in said


def test_clean_keeps_what_the_champion_needs(promoted: Clone, tmp_path: Path) -> None:
    clone = promoted.copy(tmp_path / "project")
    clone.env["PYTHONPATH"] = str(clone.folder)
    clone.run("rm", "-rf", ".git", "reports/arms")
    clone.git("init", "-q")
    clone.commit("a history without runs")
    run_id = registry(clone).get_model_version_by_alias("reviewtune-reviews_en", "champion").run_id
    reviewtune(clone, "clean", "--apply")
    assert [run.info.run_id for run in clone.runs()] == [run_id]
    assert "version 1" in reviewtune(clone, "champion", "--out", str(tmp_path / "champion"))
