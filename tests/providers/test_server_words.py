"""A server's own words reach the user, whatever the shape of its error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from reviewtune.core.config.config import Config
from reviewtune.errors import ProviderError
from reviewtune.providers.client import connect
from reviewtune.providers.responses.server_words import LONGEST, words_of
from tests.support.odd_server import Reply, json_values, odd_server

BODIES: list[tuple[object, str]] = [
    ({"error": {"message": "no seed", "code": 400}}, "no seed"),
    ({"error": "no seed"}, "no seed"),
    ({"message": "no seed"}, "no seed"),
    ({"detail": "no seed"}, "no seed"),
    ({"detail": [{"loc": ["body", "seed"], "msg": "not allowed"}, {"msg": "bad"}]}, "seed: not allowed; bad"),
    ({"errors": [{"title": "x", "detail": "no seed"}]}, "no seed"),
    ({"error": {"type": "x", "param": "seed"}}, '{"error": {"type": "x", "param": "seed"}}'),
    ({"error": "Bad Request", "message": "no\n seed"}, "no seed"),
    ([{"error": {"message": "no seed"}}], "no seed"),
    ("no seed", "no seed"),
    ("<html><head><title>502 Bad&nbsp;Gateway</title></head><body>x</body></html>", "502 Bad Gateway"),
    ("<p>no <b>seed</b></p>", "no seed"),
    (None, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_the_words_of_an_error(body: object, words: str) -> None:
    assert words_of(body) == words


@settings(max_examples=200)
@given(json_values())
def test_the_words_of_any_body_are_one_short_line(body: object) -> None:
    words = words_of(body)
    assert "\n" not in words
    assert len(words) <= LONGEST + 4


@pytest.mark.parametrize("body", [{"error": "no seed"}, {"detail": [{"msg": "no seed"}]}, "no seed"])
def test_an_error_names_status_and_words(config: Config, body: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert "HTTP 400: no seed; " in message_of(config, Reply(text.encode(), status=400))


def test_an_error_without_words_has_its_status(config: Config) -> None:
    assert "HTTP 418: " in message_of(config, Reply(b"", status=418))


def message_of(config: Config, reply: Reply) -> str:
    """What the user sees if a server replies so."""
    with odd_server({"GET /v1/models": lambda _: reply}) as server:
        changes = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None, "max_retries": 0}
        provider = config.provider.model_copy(update=changes)
        with pytest.raises(ProviderError) as caught, connect(provider) as client:
            client.models.list()
    return str(caught.value)
