"""Clients of every provider: keys are never shown, and errors are one line."""

import os
import re
from pathlib import Path

import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.errors import ProviderError
from reviewtune.providers.client import connect
from tests.support.odd_server import Reply, odd_server

SECRET = "sk-very-secret-key"


def provider(config: Config, **changes: object) -> ProviderConfig:
    return config.provider.model_copy(update={"max_retries": 0, "timeout": 5.0, **changes})


def refused(settings: ProviderConfig) -> str:
    with pytest.raises(ProviderError) as caught, connect(settings) as client:
        client.models.list()
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_a_missing_key_is_one_line_that_names_the_variable(config: Config) -> None:
    assert "OPENAI_API_KEY is not set" in refused(provider(config, kind="openai", api_key_env="OPENAI_API_KEY"))
    other = provider(config, kind="compatible", base_url="http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    assert "MY_KEY is not set" in refused(other)


def test_azure_names_the_missing_variable(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    azure = provider(config, kind="azure", api_key_env="AZURE_OPENAI_API_KEY")
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    assert "AZURE_OPENAI_ENDPOINT is not set" in refused(azure)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("OPENAI_API_VERSION", raising=False)
    assert "OPENAI_API_VERSION is not set" in refused(azure)
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    assert "AZURE_OPENAI_API_KEY is not set" in refused(azure)


def test_a_provider_that_is_down_is_named_with_its_address(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    down = provider(config, kind="compatible", base_url="http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    assert re.search(r"http://127\.0\.0\.1:9/v1 cannot be reached", refused(down))


def test_a_key_that_the_server_repeats_is_not_shown(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    body = f'{{"error": "key {SECRET} has no credit"}}'.encode()
    with odd_server({"GET /v1/models": lambda _: Reply(body, status=402)}) as server:
        message = refused(provider(config, kind="compatible", base_url=server.base_url, api_key_env="MY_KEY"))
    assert "key [API KEY] has no credit" in message


def test_a_server_that_cannot_start_reports_the_reason(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account's database is a folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "account.db").mkdir()  # SQLite cannot open a folder
    monkeypatch.setenv("REVIEWTUNE_HOME", str(tmp_path))
    message = refused(provider(config))
    assert "the local provider did not start" in message
    assert "reviewtune.local_server" in message
    assert os.environ["REVIEWTUNE_HOME"] in message


def test_a_key_that_was_not_sent_is_not_blamed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """REVIEWTUNE_API_KEY is for the local provider only."""
    monkeypatch.setenv("REVIEWTUNE_API_KEY", "sk-other")
    with odd_server({"GET /v1/models": lambda _: Reply(b'{"error": "who?"}', status=401)}) as server:
        changes = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None}
        provider = config.provider.model_copy(update=changes)
        words = pytest.raises(ProviderError, match=r"the server needs a key: set provider\.api_key_env")
        with words, connect(provider) as client:
            client.models.list()
