"""Answers belong to the real address of a provider, and those of earlier releases are still found."""

from collections.abc import Iterator

import pytest

from reviewtune.core.config.config import Config
from reviewtune.providers.address import address_of
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.completion import key_of
from reviewtune.providers.inference import Answers, ask
from tests.support.asking import REQUEST, chats
from tests.support.odd_server import OddServer, completion, odd_server


def serving(name: str) -> Iterator[OddServer]:
    with odd_server({"POST *": lambda _: completion(name)}) as server:
        yield server


@pytest.fixture
def first() -> Iterator[OddServer]:
    yield from serving("first")


@pytest.fixture
def second() -> Iterator[OddServer]:
    yield from serving("second")


def asked(config: Config, kind: str) -> Answers:
    provider = config.provider.model_copy(update={"kind": kind, "base_url": None, "api_key_env": None})
    policy = CallPolicy.of(provider, config.evaluation, config.prices)
    return ask(policy, REQUEST, chats(1), title="x")


@pytest.mark.parametrize(("kind", "variable"), [("openai", "OPENAI_BASE_URL"), ("azure", "AZURE_OPENAI_ENDPOINT")])
def test_two_servers_behind_one_configuration_have_separate_answers(
    config: Config, first: OddServer, second: OddServer, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    for server, name, cached in (
        (first, "first", 0),
        (second, "second", 0),
        (first, "first", 1),
        (second, "second", 1),
    ):
        monkeypatch.setenv(variable, server.base_url)
        answers = asked(config, kind)
        assert (answers.answers[0].text, answers.cached) == (name, cached)


def test_azure_answers_of_earlier_releases_belong_to_the_first_endpoint(
    config: Config, first: OddServer, second: OddServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the cache under "azure"."""
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", first.base_url)
    kept = asked(config, "azure").answers[0]
    with open_store() as store:
        key = key_of("azure", REQUEST.body(chats(1)[0]), 0)
        assert store.find([key]) == {key: kept}
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", second.base_url)
    assert asked(config, "azure").cached == 0


def test_default_addresses_keep_their_names(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """These names are in the keys of all answers that were ever paid for."""

    def address(kind: str, base_url: str | None = None) -> str:
        return address_of(config.provider.model_copy(update={"kind": kind, "base_url": base_url}))

    assert (address("local"), address("openai")) == ("local", "openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    assert (address("local"), address("openai")) == ("local", "openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy/v1")
    assert (address("local"), address("openai")) == ("local", "https://proxy/v1")
    assert address("openai", "https://host/v1/") == "https://host/v1/"
