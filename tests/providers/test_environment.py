"""Variables of the environment do not change how a server on this machine is reached."""

import asyncio
import re
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.errors import ProviderError
from reviewtune.providers.client import certificates, connect
from reviewtune.providers.transport import completions
from tests.support.echo_server import EchoServer, echo_server

CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
NOWHERE = "http://127.0.0.1:9"  # a proxy that nothing listens at
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
OF_OPENAI = {
    "OPENAI_BASE_URL": f"{NOWHERE}/v1",
    "OPENAI_API_KEY": "sk-of-openai",
    "OPENAI_ADMIN_KEY": "sk-admin",
    "OPENAI_ORG_ID": "org-1\n",  # a header cannot have a line break
    "OPENAI_PROJECT_ID": "프로젝트",  # nor other characters than ASCII's
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-custom\nX-Custom: 1\nHost: example.org",
}


@pytest.fixture(autouse=True)
def _strange_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in PROXIES:
        monkeypatch.setenv(name, NOWHERE)
    for name, value in OF_OPENAI.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    monkeypatch.setenv("MY_KEY", " sk-mine\n")
    monkeypatch.setenv("REVIEWTUNE_API_KEY", "sk-local")
    certificates.cache_clear()


def provider(config: Config, **changes: object) -> ProviderConfig:
    return config.provider.model_copy(update={"max_retries": 0, "timeout": 5.0, **changes})


def ask(settings: ProviderConfig) -> None:
    """One request over each of the two transports."""

    async def ask_many() -> None:
        async with completions(client, settings) as asking:
            await asking.ask(CHAT)

    with connect(settings) as client:
        client.chat.completions.create(**CHAT)
        asyncio.run(ask_many())


def keys_of(server: EchoServer) -> set[str | None]:
    for _, headers in server.requests:
        leaked = {name.lower() for name in headers} & {"openai-organization", "openai-project", "x-custom"}
        assert not leaked
        assert headers["host"] != "example.org"
    assert len(server.requests) == 2
    return {headers["authorization"] for _, headers in server.requests}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_compatible_server_on_this_machine(config: Config, host: str) -> None:
    with echo_server() as server:
        ask(provider(config, kind="compatible", base_url=f"http://{host}:{server.port}/v1", api_key_env="MY_KEY"))
        assert keys_of(server) == {"Bearer sk-mine"}


def test_a_local_provider_with_an_address(config: Config) -> None:
    with echo_server() as server:
        ask(provider(config, base_url=f"http://127.0.0.1:{server.port}/v1"))
        assert keys_of(server) == {"Bearer sk-local"}


def test_other_addresses_use_the_proxy(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    elsewhere = provider(config, kind="compatible", base_url="http://server.invalid/v1", api_key_env="MY_KEY")
    with echo_server() as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        ask(elsewhere)
        assert {path for path, _ in proxy.requests} == {"http://server.invalid/v1/chat/completions"}
        assert {headers["x-custom"] for _, headers in proxy.requests} == {"1"}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SSL_CERT_FILE", "/no/such/file.pem", "SSL_CERT_FILE=/no/such/file.pem cannot be read"),
        ("all_proxy", "socks://proxy:1", "ALL_PROXY.* cannot be used for https://server.invalid/v1"),
        ("MY_KEY", "sk-\u200bmine", "MY_KEY has characters that no key has"),
        ("MY_KEY", " ", "MY_KEY is not set"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(
    config: Config, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(variable, value)
    elsewhere = provider(config, kind="compatible", base_url="https://server.invalid/v1", api_key_env="MY_KEY")
    with pytest.raises(ProviderError) as caught, connect(elsewhere):
        pass
    assert re.search(words, str(caught.value))
    assert "sk-" not in str(caught.value)
