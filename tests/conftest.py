"""Shared by all tests: the real configuration, isolated from the user's environment."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.loopback import bypass_proxies

pytest_plugins = [
    "tests.support.serving",
    "tests.support.clones",
    "tests.support.services",
    "tests.support.scale",
    "tests.support.empty_store",
]  # real services, with a tiny model
PROJECT = Path(__file__).parent.parent
STARTS_PROCESSES = {"deployment", "monitoring", "sweeps", "tracking"}  # folders of tests


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def config() -> Config:
    return load_params(PROJECT / "params.yaml")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_API_KEY", "DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate answer cache for each test; returns its file."""
    path = tmp_path / "answers" / "answers.db"
    monkeypatch.setattr("reviewtune.providers.answer_cache.default_path", lambda: path)
    return path


@pytest.fixture(autouse=True)
def _tiny_numbers() -> Iterator[None]:
    """An engine opened in a test flushes denormal numbers to 0 from then on, which hypothesis refuses."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


def pytest_configure() -> None:
    """Prepare the process of the tests.

    Their own servers are on this machine, which a proxy of the environment cannot reach. How long an example takes
    depends on what else the machine does, so hypothesis sets no limit. And a shell that starts the tests in the
    background has them ignore Ctrl-C, which the programs under test would inherit.
    """
    bypass_proxies()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first: the library, commands in processes, the server over a tiny model, the real model, the pipeline.

    In reverse if several processes share the tests (`make test`): then the longest must not come last.
    """

    def cost(item: pytest.Item) -> tuple[bool, ...]:
        pipeline, model = (item.get_closest_marker(name) is not None for name in ("pipeline", "model"))
        return pipeline, model, "local_server" in item.path.parts, not STARTS_PROCESSES.isdisjoint(item.path.parts)

    items.sort(key=cost, reverse=hasattr(config, "workerinput"))  # set by pytest-xdist in such a process
