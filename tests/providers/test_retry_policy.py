"""The pauses that providers ask for, in each form of RFC 9110 and in any time zone."""

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from reviewtune.providers.retry_policy import asked_seconds

FORMS = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]


@pytest.fixture(params=["UTC", "Asia/Seoul", "America/St_Johns"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("form", FORMS)
def test_a_date_is_read_in_gmt(form: str) -> None:
    header = {"retry-after": time.strftime(form, time.gmtime(time.time() + 40))}
    assert asked_seconds(header) == pytest.approx(40, abs=2)


@pytest.mark.usefixtures("_zone")
def test_a_date_with_an_offset_and_one_in_the_past() -> None:
    assert asked_seconds({"retry-after": formatdate(time.time() + 40, localtime=True)}) == pytest.approx(40, abs=2)
    assert asked_seconds({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sun, 99 Nov 99999 08:49:37 GMT"}, None),
        ({}, None),
    ],
)
def test_numbers_are_seconds_and_nonsense_is_ignored(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_seconds(headers) == seconds
