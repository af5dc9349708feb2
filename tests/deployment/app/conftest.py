"""One service with a provider for all tests that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewtune.core.config.config import Config
from tests.support.app_service import AppProcess, GatedProvider, app_folder, app_process, gated_provider
from tests.support.odd_server import OddServer


@pytest.fixture(scope="session")
def labels(config: Config) -> tuple[str, ...]:
    return tuple(config.data.labels)


@pytest.fixture
def gated(labels: tuple[str, ...]) -> Iterator[tuple[GatedProvider, OddServer]]:
    with gated_provider(labels) as both:
        yield both


@pytest.fixture(scope="session")
def provider(labels: tuple[str, ...]) -> Iterator[OddServer]:
    with gated_provider(labels) as (_, server):
        yield server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Config, provider: OddServer) -> Path:
    return app_folder(tmp_path_factory.mktemp("app") / "champion", config, provider.base_url)


@pytest.fixture(scope="session")
def app(folder: Path) -> Iterator[AppProcess]:
    with app_process(folder) as process:
        yield process
