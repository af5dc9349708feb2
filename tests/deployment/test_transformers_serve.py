"""`transformers serve` on an exported folder, asked by `reviewtune evaluate` as docs/export.md describes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.evaluation.metrics_file import read_metrics
from tests.support.engine_models import real
from tests.support.exports import REVIEWS, account, model, project, save, settings
from tests.support.projects import write_params
from tests.support.services import free_port
from tests.support.serving import running, wait_for

pytestmark = pytest.mark.model
__all__ = ["account", "model", "project", "save", "settings"]


@pytest.fixture(scope="module")
def tiny_model() -> Path:
    """A real model instead, as the tiny one only writes JSON when it is made to."""
    return real("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> str:
    return str(tiny_model)


@pytest.fixture(scope="module")
def hyperparameters() -> dict[str, Any]:
    return {"n_epochs": 6, "batch_size": 4, "learning_rate_multiplier": 1}


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """The address of `transformers serve` in this folder."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", ".", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    log = (folder.parent / "serve.log").open("wb")
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: process.poll() is not None or answers(f"{url}/health"), 180)
            assert process.poll() is None, (folder.parent / "serve.log").read_text()
            yield f"{url}/v1"
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def project_of(folder: Path, source: Path, **provider: Any) -> Path:
    """A project that asks this provider."""
    folder.mkdir()
    write_params(folder, source, **provider)
    (folder / "dvc.yaml").touch()
    shutil.copytree(source / "conf", folder / "conf")
    return folder


def predicted(folder: Path, name: str, reviews: pd.DataFrame) -> pd.Series:
    """The labels that `reviewtune evaluate` gets in this project."""
    reviews.to_csv(folder / "reviews.csv", index=False)
    options = ["--model", name, "--finetuned", "--ground-truth", "reviews.csv", "--out", "result"]
    command = [sys.executable, "-m", "reviewtune", "evaluate", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    assert read_metrics(folder / "result").invalid == 0
    return pd.read_csv(folder / "result" / "predictions.csv", dtype=str)["predicted"]


def test_evaluate_gets_the_labels_of_the_local_server(
    save: Any, model: str, account: Path, settings: Config, tiny_model: Path, tmp_path: Path
) -> None:
    save(model)
    source, labels = Path(__file__).parent.parent.parent, list(settings.data.labels)
    texts = [(f"{text} {label}", label) for label in labels for text in REVIEWS[:2]]
    reviews = pd.DataFrame(texts, columns=["review_text", "manual_label"])
    with running(account, "--base-model", str(tiny_model)) as server:
        local = project_of(tmp_path / "local", source, base_url=server.base_url, base_model=str(tiny_model))
        expected = predicted(local, model, reviews)
    with transformers_serve(tmp_path / "out") as url:
        other = {"kind": "compatible", "base_url": url, "base_model": ".", "structured_output": False}
        compatible = project_of(tmp_path / "other", source, **other, api_key_env=None, label_scores="none")
        assert predicted(compatible, ".", reviews).tolist() == expected.tolist()
