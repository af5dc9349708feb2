"""An application learns from one line of its log that the model it asks will be shut down."""

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core import clock
from reviewtune.core.config.config import Config
from reviewtune.providers import lifecycle
from tests.support.lifecycle import fact, facts
from tests.support.odd_server import CHAT, OddServer, odd_server
from tests.support.served import provided_by, scored_completion, served_folder

MODEL = "ft:gpt-4o-mini-2024-07-18:acme:issues:AbC123"
SHUTDOWN = facts(fact("shutdown", "2027-01-14", provider="compatible", models=("gpt-4o-mini",)))


@pytest.fixture
def provider() -> Iterator[OddServer]:
    lifecycle.forget_warnings()
    with odd_server({CHAT: lambda _: scored_completion("delivery_delay")}) as server:
        yield server


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_one_line_however_many_analyzers_and_reviews(
    config: Config, provider: OddServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = provided_by(config, provider.base_url).model_copy(update={"lifecycle": SHUTDOWN})
    folder = served_folder(tmp_path, served, MODEL)
    with clock.stopped_at(date(2026, 11, 29)):
        for _ in range(2):
            analyzer = ReviewAnalyzer(served_model=folder)
            assert analyzer.categorize_issues(["late", "late"]) == ["delivery_delay"] * 2
    (line,) = warnings(caplog)
    assert line.startswith(f"{MODEL} (provider compatible) stops answering on 2027-01-14, in 46 days: choose another")


def test_an_analyzer_that_was_opened_long_ago_warns_on_the_day(
    config: Config, provider: OddServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = provided_by(config, provider.base_url).model_copy(update={"lifecycle": SHUTDOWN})
    with clock.stopped_at(date(2026, 10, 15)):
        analyzer = ReviewAnalyzer(served_model=served_folder(tmp_path, served, MODEL))
        analyzer.categorize_issues(["late"])
    assert not warnings(caplog)
    with clock.stopped_at(date(2026, 10, 16)):
        analyzer.categorize_issues(["late"])
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("model", ["ft:gemma-3-270m:local:issues:1", "ft:gpt-4o:acme::1"])
def test_a_model_that_does_not_end_is_not_mentioned(
    config: Config, provider: OddServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    served = provided_by(config, provider.base_url).model_copy(update={"lifecycle": SHUTDOWN})
    with clock.stopped_at(date(2027, 1, 20)):
        ReviewAnalyzer(served_model=served_folder(tmp_path, served, model)).categorize_issues(["late"])
    assert not warnings(caplog)
