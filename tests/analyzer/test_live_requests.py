"""An application under load, against a server in its own process: requests run together, and nothing piles up."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from tests.support.loopback import Loopback, loopback
from tests.support.odd_server import CHAT, OddServer, Reply, bodies, odd_server
from tests.support.served import provided_by, scored_completion, served_folder

CLIENTS = 64


async def load(analyzer: ReviewAnalyzer, requests: int) -> None:
    """CLIENTS clients, each with one review at a time."""
    turns = iter(range(requests))

    async def client() -> None:
        for number in turns:
            (result,) = await analyzer.aclassify_reviews([f"label-{number} was late"])
            assert result.why == "no label of the list (finish reason: stop)"

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


@pytest.fixture
def analyzer(config: Config, tmp_path: Path) -> Iterator[tuple[ReviewAnalyzer, Loopback]]:
    """The provider allows 16 requests of one file at once; clients of a service are not held back by each other."""
    with loopback(delay=0.05) as server:
        settings = provided_by(config, server.base_url, concurrency=16)
        yield ReviewAnalyzer(served_model=served_folder(tmp_path / "served", settings)), server


def test_clients_are_answered_together_and_nothing_is_kept(
    analyzer: tuple[ReviewAnalyzer, Loopback], answers: Path, tmp_path: Path
) -> None:
    """64 clients at once; memory does not grow with the number of requests; no answer is written to the disk."""
    asked, server = analyzer

    async def held() -> int:
        """Objects in memory."""
        gc.collect()
        return len(gc.get_objects())

    async def growth() -> int:
        await load(asked, 320)
        before = await held()
        await load(asked, 960)
        return await held() - before

    grown = asyncio.run(growth())
    assert server.most_under_way == CLIENTS
    assert server.served == 1280
    assert grown < 960  # each answer that is kept would be several
    assert not answers.exists()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["served_model.json"]


def test_one_call_with_many_reviews_keeps_to_the_providers_limit(
    analyzer: tuple[ReviewAnalyzer, Loopback],
) -> None:
    asked, server = analyzer
    asked.classify_reviews([f"label-{number}" for number in range(100)])
    assert server.most_under_way == 16


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(config: Config, tmp_path: Path, status: int) -> None:
    replies = iter([Reply(b"{}", status=status, headers={"retry-after": "0"}), Reply(b"{}", status=status)])
    with odd_server({CHAT: lambda _: next(replies, None) or scored_completion("no_issue")}) as server:
        analyzer = ReviewAnalyzer(served_model=served_folder(tmp_path, provided_by(config, server.base_url)))
        assert analyzer.categorize_issues(["late"]) == ["no_issue"]
        assert len(server.seen) == 3


def test_a_review_that_the_provider_rejects_is_not_asked_again(config: Config, tmp_path: Path) -> None:
    """Too long for the model: no other model of the chain is paid for it."""
    body = b'{"error": {"message": "maximum context length is 8192", "code": "context_length_exceeded"}}'
    with odd_server({CHAT: lambda _: Reply(body, status=400)}) as server:
        analyzer = ReviewAnalyzer(served_model=served_folder(tmp_path, provided_by(config, server.base_url)))
        (result,) = analyzer.classify_reviews(["late"])
        assert (result.label, result.model) == (None, "ft:issues")
        assert "maximum context length" in str(result.why)
        assert len(server.seen) == 1


def test_the_key_is_in_no_message(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-very-secret")
    body = b'{"error": {"message": "wrong key sk-very-secret"}}'
    with odd_server({CHAT: lambda _: Reply(body, status=401)}) as server:
        settings = provided_by(config, server.base_url, api_key_env="SHOP_KEY")
        analyzer = ReviewAnalyzer(served_model=served_folder(tmp_path, settings))
        (result,) = analyzer.classify_reviews(["late"])
    assert "the key in SHOP_KEY was refused" in str(result.why)
    assert "sk-very-secret" not in str(result)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddServer]:
    monkeypatch.setattr("reviewtune.providers.retry_policy.FIRST_PAUSE", 0.001)
    with odd_server() as server:
        yield server


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=bodies(scored_completion("no_issue")))
def test_no_answer_of_a_server_costs_another_review_its_label(
    config: Config, odd: OddServer, tmp_path: Path, reply: Reply
) -> None:
    odd.routes[CHAT] = lambda asked: reply if "odd" in asked.review else scored_completion("delivery_delay")
    analyzer = ReviewAnalyzer(served_model=served_folder(tmp_path, provided_by(config, odd.base_url)))
    first, second, third = analyzer.classify_reviews(["late", "odd", "later"])
    assert (first.label, third.label) == ("delivery_delay", "delivery_delay")
    assert second.label in analyzer.labels or second.why
