"""The light client: a served model of a remote provider needs no package of the pipeline."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from reviewtune.core.config.config import Config
from tests.support.odd_server import CHAT, Asked, odd_server
from tests.support.served import provided_by, scored_completion, served_folder

PROJECT = Path(__file__).parents[2]
LARGEST = 60 * 2**20  # bytes on disk
MODULES = {
    "scikit-learn": "sklearn",
    "python-multipart": "multipart",
    "bpe-openai": "bpe_openai",
    "hydra-core": "hydra",
    "pyyaml": "yaml",
    "prometheus-client": "prometheus_client",
    "python-dateutil": "dateutil",
}
"""Packages whose module has a different name."""


def extras(*names: str) -> set[str]:
    """The packages of these extras of pyproject.toml."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = [line for name in names for line in project["optional-dependencies"][name]]
    return {Requirement(line).name for line in lines}


def answer(asked: Asked) -> object:
    broken = "Broken" in asked.review
    return scored_completion("damaged_item", 0.7, "delivery_delay") if broken else scored_completion("delivery_delay")


EXPECTED = [
    "delivery_delay 0.9 True ft:issues",
    "damaged_item 0.6 False ft:issues",
    "None None False None",
    "['delivery_delay']",
]


def test_a_served_model_answers_without_the_packages_of_the_pipeline(config: Config, tmp_path: Path) -> None:
    missing = extras("project", "app") - {"anyio"}  # of which the openai client brings anyio
    names = {MODULES.get(name, name) for name in missing} | {"numpy", "omegaconf", "torch"}
    priced = next(iter(config.prices.models))  # as a hosted provider is; what an answer costs is not counted here
    with odd_server({CHAT: answer}) as server:
        folder = served_folder(tmp_path / "served", provided_by(config, server.base_url, priced_as=priced))
        command = [sys.executable, str(PROJECT / "tests/support/light_client.py"), str(folder), ",".join(names)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[:4] == EXPECTED, done.stderr
    assert re.search(r"needs scipy: `pip install '\S*\[issues\]'`", done.stdout)
    assert done.stderr == ""


@pytest.mark.services
def test_pip_install_brings_a_small_client_that_answers(config: Config, tmp_path: Path) -> None:
    """A fresh environment, as `pip install reviewtune` makes it; one line says what the command needs."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    before = on_disk(packages)
    pip = [str(tmp_path / "venv/bin/pip"), "install", "--quiet", "-c", str(PROJECT / "requirements.lock"), str(PROJECT)]
    subprocess.run(pip, check=True, cwd=tmp_path)
    assert on_disk(packages) - before < LARGEST
    with odd_server({CHAT: answer}) as server:
        folder = served_folder(tmp_path / "served", provided_by(config, server.base_url))
        command = [str(tmp_path / "venv/bin/python"), str(PROJECT / "tests/support/light_client.py"), str(folder), ""]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[:4] == EXPECTED, done.stderr
    command = [str(tmp_path / "venv/bin/reviewtune"), "classify", "new.csv"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the command `reviewtune` is not installed")
    assert len(refused.stderr.splitlines()) == 1


def on_disk(folder: Path) -> int:
    """Bytes, as `du` counts them: whole blocks."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
