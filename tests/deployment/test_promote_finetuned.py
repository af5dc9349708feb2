"""A fine-tune of the local provider becomes champion: with its weights, and safe from `clean`."""

import pytest

from tests.deployment.conftest import reviewtune
from tests.support.clones import Clone

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def promoted(committed: Clone) -> Clone:
    """The tiny model spells letters and holds no gate, so it is forced."""
    committed.env["PYTHONPATH"] = str(committed.folder)
    reviewtune(committed, "promote", "--with-weights", "--force", "--reason", "to see it work")
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


def test_the_folder_holds_the_adapter(promoted: Clone) -> None:
    reviewtune(promoted, "champion", "--out", "../champion")
    served = promoted.json("../champion/served_model.json")
    record = promoted.json("models/finetuned.json")
    assert (served["kind"], served["model"]) == ("finetuned", record["model"])
    assert served["provenance"]["job_id"] == record["job_id"]
    assert served["provenance"]["training_run_id"] == promoted.json("models/run.json")["mlflow_run_id"]
    adapter = promoted.folder.parent / "champion" / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in adapter.iterdir()}


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
