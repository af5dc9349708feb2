"""docs/team.md with real services: two people, one git history, an MLflow server on PostgreSQL and S3, a DVC remote.

`make test-services` runs it. The tests follow the team's day: each continues where the previous one stopped.
"""

import subprocess
from pathlib import Path

import openai
import pytest
import yaml
from mlflow import MlflowClient

from tests.support.clones import WHO, Clone
from tests.support.services import BUCKET, KEYS, PROVIDER_KEY, Services

pytestmark = pytest.mark.services
ARMS = ("majority", "linear", "zero_shot", "finetuned")


@pytest.fixture(scope="module")
def first(project: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, services: Services) -> Clone:
    """Sets the team up, runs the pipeline once, commits the results and pushes DVC's data."""
    clone = Clone.of(project, tmp_path_factory.mktemp("team") / "first", tiny_model)
    _configure(clone, services)
    clone.repro()
    clone.commit("first results")
    clone.run("dvc", "push")
    return clone


@pytest.fixture(scope="module")
def second(first: Clone) -> Clone:
    """A colleague on a new machine with only the git history and the keys."""
    clone = Clone(first.folder.with_name("second"))
    subprocess.run(["git", "clone", "-q", first.folder, clone.folder], check=True)
    clone.env |= _keys()
    return clone


def _configure(clone: Clone, services: Services) -> None:
    clone.env |= _keys()
    clone.edit("conf/tracking/default.yaml", "uri: null", f"uri: {services.mlflow}")
    clone.edit("conf/provider/local.yaml", "base_url: null", f"base_url: {services.provider}")
    clone.edit("conf/config.yaml", r"      - few_shot(_cot)?\n", "")
    clone.write_params()
    clone.run("dvc", "remote", "add", "--default", "team", f"s3://{BUCKET}/dvc")
    clone.run("dvc", "remote", "modify", "team", "endpointurl", services.s3)
    clone.commit("where the team keeps its data and runs")


def _keys() -> dict[str, str]:
    return {**KEYS, "REVIEWTUNE_API_KEY": PROVIDER_KEY, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def run_id(clone: Clone, arm: str = "finetuned") -> str:
    return str(clone.json(f"reports/arms/{arm}/run.json")["mlflow_run_id"])


def test_the_second_clone_pulls_and_nothing_is_left_to_run(first: Clone, second: Clone) -> None:
    second.run("dvc", "pull")
    assert second.repro() == []
    for name in ("data/labeled.csv", "data/chat/training_data.jsonl", "models/finetuned.json"):
        assert (second.folder / name).read_bytes() == (first.folder / name).read_bytes()
    assert second.git("status", "--short") == ""


def test_runs_stand_in_postgresql_and_their_files_in_s3(first: Clone, services: Services) -> None:
    runs = dict(services.rows("select run_uuid, status from runs"))
    assert set(runs.values()) == {"FINISHED"}
    assert len(runs) == len(ARMS) + 2  # the fine-tune, the comparison
    (key,) = [key for key in services.objects() if run_id(first) in key and key.endswith("/predictions.csv")]
    assert key.startswith("mlflow/")
    assert services.objects()[key] == (first.folder / "reports/arms/finetuned/predictions.csv").stat().st_size
    assert not (first.folder / "mlruns/mlflow.db").exists()


def test_data_and_models_of_the_pipeline_are_in_s3(first: Clone, services: Services) -> None:
    stages = yaml.safe_load((first.folder / "dvc.lock").read_text())["stages"]
    digest = {out["path"]: out["md5"] for out in stages["finetune"]["outs"]}["models/finetuned.json"]
    assert f"dvc/files/md5/{digest[:2]}/{digest[2:]}" in services.objects()


def test_the_second_sees_the_first_ones_run_and_reads_its_files(
    first: Clone, second: Clone, services: Services, tmp_path: Path
) -> None:
    shown = second.run("reviewtune", "lineage", run_id(first)[:10])
    assert f"model: {first.json('models/finetuned.json')['model']}" in shown
    client = MlflowClient(services.mlflow)
    path = client.download_artifacts(run_id(first), "predictions.csv", str(tmp_path))
    assert Path(path).read_bytes() == (first.folder / "reports/arms/finetuned/predictions.csv").read_bytes()


def test_the_second_asks_the_first_ones_model(second: Clone, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\nStill no parcel\n")
    second.run("reviewtune", "classify", str(tmp_path / "new.csv"), "--out", str(tmp_path / "sorted.csv"))
    label = (tmp_path / "sorted.csv").read_text().splitlines()[1].rpartition(",")[2]
    assert label in yaml.safe_load((second.folder / "params.yaml").read_text())["data"]["labels"]


def test_the_second_comes_to_the_first_ones_result(first: Clone, second: Clone) -> None:
    shown = second.run("reviewtune", "reproduce", run_id(first))
    assert f"run {run_id(first)}: identical" in shown


def test_runs_of_the_second_are_the_first_ones_too(first: Clone, second: Clone) -> None:
    second.run("dvc", "exp", "run", "-n", "one-epoch", "-S", "training.n_epochs=1", "evaluate")
    assert run_id(second) != run_id(first)
    assert "evaluation: finetuned" in first.run("reviewtune", "lineage", run_id(second))


def test_clean_takes_no_run_of_a_colleague(first: Clone, second: Clone, services: Services) -> None:
    """The first clone does not have the commit that names the second's runs."""
    model = second.json("models/finetuned.json")["model"]
    first.run("reviewtune", "clean", "--apply")
    assert ("active",) in services.rows(f"select lifecycle_stage from runs where run_uuid = '{run_id(second)}'")
    with openai.OpenAI(base_url=services.provider, api_key=PROVIDER_KEY) as provider:
        assert provider.models.retrieve(model).id == model


def test_a_colleagues_newer_results_arrive_by_git_and_dvc(first: Clone, second: Clone) -> None:
    second.commit("one epoch")
    second.run("dvc", "push")
    first.run("git", *WHO, "pull", "-q", str(second.folder), "HEAD")
    first.run("dvc", "pull")
    assert first.repro("evaluate") == []
    assert run_id(first) == run_id(second)


def test_the_champion_is_in_postgresql_and_everybodys(
    first: Clone, second: Clone, services: Services, tmp_path: Path
) -> None:
    """Last, because a promotion freezes the sides of the reviews."""
    aliases = "select alias, version from registered_model_aliases order by alias"
    assert "version 1 is champion" in first.run("reviewtune", "promote", "--arm", "linear")
    assert services.rows(aliases) == [("champion", 1)]
    (tmp_path / "new.csv").write_text("text\nStill no parcel\n")
    second.run("reviewtune", "classify", str(tmp_path / "new.csv"), "--out", str(tmp_path / "sorted.csv"))
    assert (tmp_path / "sorted.csv").read_text().splitlines()[1].endswith(",delivery_delay")
    first.commit("frozen sides")
    first.run("reviewtune", "promote", "--arm", "finetuned", "--force", "--reason", "to go back from it")
    assert services.rows(aliases) == [("champion", 2), ("previous", 1)]
    second.run("reviewtune", "rollback", "--reason", "worse")
    assert services.rows(aliases) == [("champion", 1), ("previous", 2)]
    assert "version 1" in first.run("reviewtune", "champion")
