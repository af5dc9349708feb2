"""A model that hangs, or cannot be opened, costs its share of the time only: the next of the chain answers."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewtune.analyzer import background_loop
from reviewtune.analyzer.classifier import Classifier
from reviewtune.analyzer.fallback import Chain, Member
from reviewtune.analyzer.open_classifier import open_classifier
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from tests.support.odd_server import CHAT, Asked, OddServer, Reply, odd_server
from tests.support.served import provided_by, scored_completion, served_folder


@pytest.fixture
def provider() -> Iterator[OddServer]:
    """The model ft:issues hangs, except for reviews with "fine"; it has an outage for those with "outage"."""
    end = threading.Event()

    def answer(asked: Asked) -> object:
        if asked.body["model"] == "ft:issues":
            if "outage" in asked.review:
                return Reply(b'{"error": {"message": "out of order"}}', status=404)
            if "fine" not in asked.review:
                end.wait(20)
        return scored_completion("no_issue")

    with odd_server({CHAT: answer}) as server:
        yield server
        end.set()


@pytest.fixture
def folder(config: Config, provider: OddServer, tmp_path: Path) -> Path:
    settings = provided_by(config, provider.base_url, base_model="base", concurrency=16)
    return served_folder(tmp_path / "served", settings)


def test_four_waves_at_a_hanging_provider_cost_one_limit(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Answered reviews keep their answers."""
    analyzer = ReviewAnalyzer(served_model=folder, timeout=3, call_timeout=3)
    started = time.monotonic()
    results = analyzer.classify_reviews(["late"] * 64)
    assert time.monotonic() - started < 7
    assert {result.model for result in results} == {"base"}
    assert "the champion does not answer" in caplog.text
    results = analyzer.classify_reviews(["fine"] * 10 + ["late"] * 54)
    assert [result.model for result in results] == ["ft:issues"] * 10 + ["base"] * 54


def test_a_call_gives_a_model_up_that_answers_none_of_many_reviews(folder: Path, provider: OddServer) -> None:
    results = ReviewAnalyzer(served_model=folder).classify_reviews(["outage"] * 200)
    assert {result.model for result in results} == {"base"}
    assert len([asked for asked in provider.seen if asked.body["model"] == "ft:issues"]) < 100


def test_one_call_is_one_failure_however_many_reviews_it_has(folder: Path) -> None:
    analyzer = ReviewAnalyzer(served_model=folder, refresh=60)
    analyzer.classify_reviews(["outage"] * 10)
    analyzer.classify_reviews(["outage"] * 10)
    assert analyzer.classify_reviews(["fine"])[0].model == "ft:issues"
    for _ in range(3):
        analyzer.classify_reviews(["outage"] * 10)
    assert analyzer.classify_reviews(["fine"])[0].model == "base"


def test_a_model_that_cannot_be_opened_is_passed_over(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whether its opening hangs or crashes."""
    end = threading.Event()

    def hangs() -> Classifier:
        end.wait(20)
        raise AssertionError("nobody waits for this")

    def crashes() -> Classifier:
        raise MemoryError

    last = Member("the last", lambda: open_classifier(folder), rest=60)
    members = [Member("the first", hangs, rest=60, limit=0.2), Member("the second", crashes, rest=60), last]
    chain = Chain(members, unsure=True)
    started = time.monotonic()
    (result,) = background_loop.run(chain.aclassify(["fine"]))
    assert time.monotonic() - started < 3
    assert result.model == "ft:issues"
    assert "could not be opened (MemoryError)" in caplog.text
    end.set()
