"""A fine-tune of the tiny model in an account whose server has ended, and its export; fixtures to import."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.deployment.export import ExportOptions, export
from reviewtune.deployment.export_folder import ExportRecord
from tests.support.serving import finished, running, upload

REVIEWS = ("Three weeks late.", "The cup came in pieces.", "Lovely, thanks!", "Wrong colour.", "It broke after a day.")


@pytest.fixture(scope="module")
def settings(config: Config, base: str) -> Config:
    return config.model_copy(update={"provider": config.provider.model_copy(update={"base_model": base})})


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export") / "data"


@pytest.fixture(scope="module")
def hyperparameters() -> dict[str, Any]:
    """With which the tiny model learns to write labels; a real model needs others."""
    return {"n_epochs": 30, "batch_size": 8, "learning_rate_multiplier": 6}


@pytest.fixture(scope="module")
def model(account: Path, tiny_model: Path, settings: Config, hyperparameters: Any) -> str:
    """A fine-tune, which has learned to write labels; its server has ended."""
    prompt, labels = Prompt.of(settings), list(settings.data.labels)
    lines = [prompt.line(f"{text} {label}", label) for label in labels for text in REVIEWS[:2]]
    with running(account, "--base-model", str(tiny_model)) as server:
        file = upload(server.client, lines)
        create = server.client.fine_tuning.jobs.create
        job = create(model=str(tiny_model), training_file=file.id, hyperparameters=hyperparameters)
        name = finished(server.client, job.id).fine_tuned_model
    assert name
    return name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without a fine-tune."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def save(settings: Config, project: Path, account: Path, tmp_path: Path) -> Any:
    """Export into tmp_path/out."""

    def save(model: str | None, **changes: Any) -> ExportRecord:
        options = {"out": tmp_path / "out", "data_dir": account, **changes}
        return export(ExportOptions(model=model, **options), settings, project)

    return save


def run_python_of(folder: Path) -> str:
    """What the program in the folder's README prints."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
