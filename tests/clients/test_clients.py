"""The genuine packages of others, each in an environment with pinned versions, against one real server.

`make test-clients` makes the environments and runs this. docs/clients.md lists what works, and what users must set.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.ending_model import make_ending_model
from tests.support.serving import LABELS, ServerProcess, running

FOLDER = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("CLIENT_ENVIRONMENTS", FOLDER.parents[1] / ".clients"))
MODEL = "our-reviews"
HOSTED = "gpt-4o-mini-2024-07-18"  # for clients that know hosted names only
CHOSEN = ("gpt-5.6-luna",)  # the models of clients whose user names none
FOR_NODE = ("node", "promptfoo")  # the environments with node_modules/
REVIEWS = 10
SLOWEST = 900  # seconds of one client; a busy machine needs that long


class Client(NamedTuple):
    """A script of scripts/, and its environment: of requirements-ENVIRONMENT.txt, or of ENVIRONMENT/package.json."""

    script: str
    environment: str


CLIENTS = {
    "openai, newest": Client("with_openai", "current"),
    "openai 1": Client("with_openai", "openai1"),
    "AzureOpenAI": Client("with_azure_openai", "current"),
    "openai for Node": Client("with_openai_node", "node"),
    "LangChain": Client("with_langchain", "current"),
    "pydantic-ai": Client("with_pydantic_ai", "current"),
    "Agents SDK": Client("with_agents", "current"),
    "llm": Client("with_llm", "current"),
    "LiteLLM": Client("with_litellm", "litellm"),
    "LiteLLM's proxy": Client("with_litellm_proxy", "litellm_proxy"),
    "instructor": Client("with_instructor", "litellm"),
    "LlamaIndex": Client("with_llama_index", "llama_index"),
    "DSPy": Client("with_dspy", "dspy"),
    "inspect_ai": Client("with_inspect", "inspect"),
    "scikit-llm": Client("with_scikit_llm", "scikit_llm"),
    "promptfoo": Client("with_promptfoo", "promptfoo"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("clients")
    model = make_ending_model(tiny_model, folder / "ending")
    aliases = [word for name in (MODEL, HOSTED, *CHOSEN) for word in ("--alias", f"{name}={model}")]
    with running(folder / "data", "--base-model", str(model), *aliases) as process:
        yield process


@pytest.mark.clients
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_classifies_ten_reviews_in_every_way(name: str, server: ServerProcess, tmp_path: Path) -> None:
    """A way without a form of the answer yields "text", as a model with random weights writes anything."""
    results = ways_of(CLIENTS[name], server, tmp_path)
    faults = {way: labels for way, labels in results.items() if not isinstance(labels, list)}
    assert not faults, "\n".join(f"{way}: {fault}" for way, fault in faults.items())
    for way, labels in results.items():
        assert set(labels) <= {*LABELS, "text"}, way
        assert len(labels) == REVIEWS, way


def ways_of(client: Client, server: ServerProcess, folder: Path) -> dict[str, list[str] | str]:
    """The labels, or the error, of each way in which the script asks."""
    command = command_of(client, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REVIEWTUNE"))}
    environment |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "local", "MODEL": MODEL, "HOSTED": HOSTED}
    environment |= {"HOME": str(folder), "NO_PROXY": "127.0.0.1", "DO_NOT_TRACK": "1"}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise LiteLLM fetches a list of models
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SLOWEST)
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, list[str] | str] = json.loads(done.stdout.splitlines()[-1])
    return results


def command_of(client: Client, folder: Path) -> list[str]:
    """The command that runs the script; Node finds packages next to a script only, so that is copied."""
    environment = ENVIRONMENTS / client.environment
    if not (environment / ".installed").exists():
        pytest.skip(f"no environment {environment}: run `make test-clients`")
    if client.environment not in FOR_NODE:
        return [str(environment / "bin" / "python"), str(FOLDER / "scripts" / f"{client.script}.py")]
    (folder / "node_modules").symlink_to(environment / "node_modules")
    shutil.copy(FOLDER / "scripts" / "reviews.json", folder)
    return ["node", str(shutil.copy(FOLDER / "scripts" / f"{client.script}.mjs", str(folder)))]


@pytest.mark.parametrize("script", sorted((FOLDER / "scripts").glob("with_*.*")), ids=lambda script: str(script.stem))
def test_every_script_is_run(script: Path) -> None:
    assert script.stem in {client.script for client in CLIENTS.values()}


@pytest.mark.parametrize("environment", sorted({client.environment for client in CLIENTS.values()} - {*FOR_NODE}))
def test_every_environment_is_pinned(environment: str) -> None:
    lines = (FOLDER / f"requirements-{environment}.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    assert len(lines) > 1


@pytest.mark.parametrize("environment", FOR_NODE)
def test_the_packages_for_node_are_pinned(environment: str) -> None:
    wanted = json.loads((FOLDER / environment / "package.json").read_text())["dependencies"]
    locked = json.loads((FOLDER / environment / "package-lock.json").read_text())["packages"]
    assert wanted == {name: locked[f"node_modules/{name}"]["version"] for name in wanted}
