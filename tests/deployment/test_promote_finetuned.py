"""A fine-tune of the local provider becomes champion, and `clean` keeps what it needs."""

import pytest

from tests.deployment.conftest import reviewtune
from tests.support.clones import Clone

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def promoted(committed: Clone) -> Clone:
    """The tiny model spells letters and holds no gate, so it is forced."""
    committed.env["PYTHONPATH"] = str(committed.folder)
    force = ("promote", "--force", "--reason", "to see it work")
    refused = reviewtune(committed, *force, "--with-weights", ok=False)  # the tiny model is no adapter
    assert "error: --with-weights: ft:tiny:local:" in refused
    assert "leave the option out to promote the model's name" in refused
    committed.git("checkout", "-q", ".")
    reviewtune(committed, *force)
    return committed


def test_the_gates_ask_the_model_itself(promoted: Clone) -> None:
    report = promoted.json("reports/gates.json")
    gates = {gate["name"]: gate for gate in report["gates"]}
    assert report["forced"] is True
    assert report["reason"] == "to see it work"
    assert gates["hostile reviews"]["seen"].split(" of ")[1].startswith("51")
    assert gates["training data"]["outcome"] == "passed"
    assert promoted.json("models/finetuned.json")["training_sha256"][:12] in gates["training data"]["seen"]
    assert gates["latency"]["value"] > 0


def test_the_folder_names_the_model_and_its_origin(promoted: Clone) -> None:
    reviewtune(promoted, "champion", "--out", "../champion")
    served, record = promoted.json("../champion/served_model.json"), promoted.json("models/finetuned.json")
    assert (served["kind"], served["model"]) == ("finetuned", record["model"])
    assert served["provenance"]["job_id"] == record["job_id"]
    assert served["provenance"]["training_run_id"] == promoted.json("models/run.json")["mlflow_run_id"]
    assert not (promoted.folder.parent / "champion" / "adapter").exists()


def test_clean_keeps_the_model_and_the_job_of_the_champion(promoted: Clone) -> None:
    """Nothing else refers to them any more: no file, no commit, no note."""
    promoted.run("rm", "-rf", ".git", "reports/arms", "models", ".work/finetune")
    promoted.git("init", "-q")
    promoted.commit("a history without runs")
    jobs = promoted.jobs()
    reviewtune(promoted, "clean", "--apply")
    assert promoted.jobs() == jobs
    kinds = {run.data.tags["kind"] for run in promoted.runs()}
    assert {"evaluation", "finetune"} <= kinds
    assert len(promoted.runs("tags.kind = 'evaluation'")) == 1
