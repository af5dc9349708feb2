"""provider=azure as the project configures it, end to end: the genuine AzureOpenAI client and a real server.

The local server has Azure's paths, so everything is real but Azure itself: the deployment is a name for the tiny model.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_config
from reviewtune.data.splits import Splits, split
from reviewtune.evaluation.arms import evaluate_arm
from reviewtune.evaluation.results import Evaluation
from reviewtune.providers.client import connect
from tests.support.serving import ServerProcess, example, finished, running, upload
from tests.support.unbalanced import LABELS, for_tickets, tickets

KEY = "of-our-tenant"
DEPLOYMENT = "gpt-4o-mini-2024-07-18"  # conf/provider/azure.yaml
COUNTS = dict.fromkeys(LABELS[:3], 12)


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory, base: str) -> Iterator[ServerProcess]:
    options = ("--base-model", base, "--alias", f"{DEPLOYMENT}={base}")
    with running(tmp_path_factory.mktemp("azure") / "data", *options, api_key=KEY) as server:
        yield server


@pytest.fixture
def azure(tenant: ServerProcess, project: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The project's own configuration with provider=azure, and its three variables."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", tenant.base_url.removesuffix("/v1"))
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.chdir(project)
    return for_tickets(load_config(["provider=azure"]), COUNTS)


def evaluated(config: Config, folder: Path, name: str = "zero_shot") -> tuple[Evaluation, Splits]:
    splits = split(tickets(COUNTS), config.split, train_size="all")
    write_json({"splits": {"test": {"sha256": "t"}}}, folder / "manifest.json")
    train, valid, test = splits
    return evaluate_arm(name, config, train, test, manifest=folder / "manifest.json", valid=valid), splits


def posts(server: ServerProcess, path: str) -> int:
    return server.log.read_text().count(f'method="POST" path="{path}" status=200')


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_an_arm_is_evaluated_at_azure(azure: Config, tenant: ServerProcess, tmp_path: Path, mode: str) -> None:
    """Every test review gets an answer, which is that of the same model without Azure's paths."""
    assert azure.provider.kind == "azure"
    assert azure.provider.base_model == DEPLOYMENT
    before = posts(tenant, f"/openai/deployments/{DEPLOYMENT}/chat/completions")
    result, splits = evaluated(for_tickets(azure, COUNTS, mode=mode), tmp_path)
    asked = posts(tenant, f"/openai/deployments/{DEPLOYMENT}/chat/completions") - before
    assert asked == (len(splits.test) if mode == "online" else 0)
    assert result.predictions["review_id"].tolist() == splits.test["review_id"].tolist()
    assert set(result.predictions["predicted"]) <= set(COUNTS)
    assert result.metrics.model == DEPLOYMENT
    plain = for_tickets(azure, COUNTS, kind="compatible", base_url=tenant.base_url, api_key_env="AZURE_OPENAI_API_KEY")
    same, _ = evaluated(plain, tmp_path)
    assert same.predictions["predicted"].tolist() == result.predictions["predicted"].tolist()


def test_a_deployment_can_be_trained(azure: Config, tenant: ServerProcess) -> None:
    """Files and jobs below /openai/, through the client that the commands use."""
    with connect(azure.provider) as client:
        file = upload(client, [example(index) for index in range(12)])
        job = client.fine_tuning.jobs.create(model=DEPLOYMENT, training_file=file.id)
        assert finished(client, job.id).status == "succeeded"
    assert posts(tenant, "/openai/fine_tuning/jobs") == 1
