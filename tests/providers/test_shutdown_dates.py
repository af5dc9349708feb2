"""The shutdown dates that a real server reports, and servers that report none or nonsense."""

from datetime import date
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.providers.shutdown_dates import date_in, read_shutdown_dates
from tests.support.odd_server import OddServer, Reply, odd_server

LIST = "GET /v1/models"


def at(config: Config, server: OddServer) -> ProviderConfig:
    place = {"kind": "compatible", "base_url": server.base_url, "api_key_env": None}
    return config.provider.model_copy(update=place)


def model(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "x", **fields}


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2027-01-14", date(2027, 1, 14)),
        ("20270114", date(2027, 1, 14)),
        ("2027-01-14T00:00:00Z", date(2027, 1, 14)),
        ("2027-01-14T23:30:00-05:00", date(2027, 1, 15)),
        (" 2027-01-14 ", date(2027, 1, 14)),
        (1799884800, date(2027, 1, 14)),
        ("1799884800", date(2027, 1, 14)),
        (None, None),
        ("", None),
        ("soon", None),
        ("2027-02-30", None),
        ("14/01/2027", None),
        ("0001-01-01", None),
        ("0001-01-01T00:00:00+14:00", None),
        (0, None),
        (-1, None),
        (1799884800000, None),
        ("9" * 400, None),
        (True, None),
        ([], None),
    ],
)
def test_seconds_and_iso_dates_are_read_and_the_rest_ignored(value: object, day: date | None) -> None:
    assert date_in(value) == day


def test_the_list_of_models_is_asked_once(config: Config) -> None:
    listed = [model("a", shutdown_date="2027-01-14"), model("b", shutdown_date=1799884800), model("c"), {"id": 7}]
    listed += [model("d", shutdown_date="later"), model("e", shutdown_date=None), model("f", shutdown_date={"x": 1})]
    with odd_server({LIST: lambda _: {"object": "list", "data": listed}}) as server:
        dates = read_shutdown_dates(at(config, server), ["a", "z"])
    assert dates.by_model == {"a": date(2027, 1, 14), "b": date(2027, 1, 14)}
    assert dates.fault is None
    assert [asked.path for asked in server.seen] == ["/v1/models"]
    assert dates.of(["ft:b:acme::1"]) == date(2027, 1, 14)
    assert dates.of(["c", "z"]) is None


def test_the_first_date_of_a_fine_tune_and_its_base_counts(config: Config) -> None:
    listed = [model("ft:a:acme::1", shutdown_date="2027-06-01"), model("a", shutdown_date="2027-01-14")]
    with odd_server({LIST: lambda _: {"data": listed}}) as server:
        dates = read_shutdown_dates(at(config, server), [])
    assert dates.of(["ft:a:acme::1"]) == date(2027, 1, 14)


def test_a_server_without_a_list_is_asked_for_each_model(config: Config) -> None:
    routes: dict[str, Any] = {"GET /v1/models/a": lambda _: model("a", shutdown_date="2027-01-14")}
    with odd_server(routes) as server:
        dates = read_shutdown_dates(at(config, server), ["a", "unknown"])
    assert dates.by_model == {"a": date(2027, 1, 14)}
    assert dates.fault is None


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(b"down", status=503), "HTTP 503"),
        (Reply(b'{"error": {"message": "bad key"}}', status=401), "the server needs a key"),
        (Reply(b"<html>"), "the server sent"),
    ],
)
def test_a_failure_is_a_note_and_not_an_error(
    config: Config, reply: Reply, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewtune.providers.responses.http_client.FIRST_PAUSE", 0.001)
    with odd_server({LIST: lambda _: reply}) as server:
        dates = read_shutdown_dates(at(config, server), ["a"])
    assert not dates.by_model
    assert words in (dates.fault or "")
    assert server.count(LIST) <= 3  # an answer that cannot be read is requested again, a refusal is not


def test_a_server_that_is_not_there_is_a_note(config: Config) -> None:
    provider = config.provider.model_copy(update={"kind": "compatible", "base_url": "http://127.0.0.1:9/v1"})
    assert "cannot be reached" in (read_shutdown_dates(provider, ["a"]).fault or "")


def test_the_local_provider_is_not_asked(config: Config) -> None:
    with odd_server() as server:
        provider = at(config, server).model_copy(update={"kind": "local"})
        assert not read_shutdown_dates(provider, ["a"]).by_model
    assert not server.seen
