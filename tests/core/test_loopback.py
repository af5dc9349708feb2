"""Which addresses are this machine, and keeping a library's requests to it away from proxies."""

import os

import pytest

from reviewtune.core.loopback import bypass_proxies, is_loopback

HERE = [
    "http://127.0.0.1:8000/v1",
    "http://127.1.2.3",
    "https://localhost/v1",
    "http://LOCALHOST.:1",
    "http://a.localhost",
]
HERE += ["http://[::1]:8000/v1", "http://[::ffff:127.0.0.1]/v1", "http://0.0.0.0:8000/v1", "http://user:key@[::]:8000"]
ELSEWHERE = ["https://api.openai.com/v1", "http://10.0.0.1/v1", "http://localhost.example.org", "http://[fe80::1]/v1"]
ELSEWHERE += ["http://127.0.0.1.example.org", "http://example.org/?127.0.0.1", "", "localhost", "http://[::1/v1"]


@pytest.mark.parametrize("address", HERE)
def test_addresses_of_this_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_addresses(address: str) -> None:
    assert not is_loopback(address)


def test_names_are_added_to_those_that_bypass_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.1")
    monkeypatch.setenv("no_proxy", "")
    bypass_proxies()
    bypass_proxies()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1"
