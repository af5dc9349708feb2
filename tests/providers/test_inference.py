"""Cached answers, killed runs, rate limits and budgets, with the real client and real HTTP on loopback."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.commands.cache import prune_answers, show_stats
from reviewtune.core.config.config import Config
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.prompts import Message
from reviewtune.errors import BudgetError, CacheError, ConfigError, ProviderError
from reviewtune.providers.answer_cache import BorrowedStore, LentStore, open_store
from reviewtune.providers.completion import Answer, Request, busy_seconds, from_json, key_of, to_json
from reviewtune.providers.inference import Answers, ask
from reviewtune.providers.pricing import Usage
from tests.support.asking import REQUEST, asking_process, chats, terms
from tests.support.faulty_proxy import Fault, faulty
from tests.support.loopback import Loopback, loopback
from tests.support.odd_server import completion, odd_server
from tests.support.serving import wait_for

CHAT = "POST /v1/chat/completions"


def fine(n: int) -> list[Fault]:
    return ["fine"] * n


def broken(n: int) -> list[Fault]:
    return ["500"] * n


def labels(answers: Answers) -> list[str]:
    return [json.loads(answer.text)["label"] for answer in answers.answers]


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(0.02) as server:
        yield server


def test_every_review_gets_its_own_answer(config: Config, server: Loopback) -> None:
    """A review that occurs twice is asked once."""
    asked = ask(terms(config, server.base_url), REQUEST, [*chats(30), *chats(3)], title="x")
    assert labels(asked) == [f"label-{i}" for i in (*range(30), 0, 1, 2)]
    assert (asked.requests, asked.cached, server.served) == (30, 0, 30)


def test_a_second_run_asks_nothing_reports_it_and_gives_the_same_answers(
    config: Config, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ask(terms(config, server.base_url), REQUEST, chats(20), title="zero_shot")
    again = ask(terms(config, server.base_url), REQUEST, chats(20), title="zero_shot", progress=TerminalProgress())
    assert again.answers == first.answers
    assert again.seconds == first.seconds
    assert (again.requests, again.cached, server.served) == (0, 20, 20)
    assert "zero_shot: 20 of 20 answers kept from before, no request is made" in capsys.readouterr().out


def test_a_different_request_is_sent_again(config: Config, server: Loopback) -> None:
    here = terms(config, server.base_url)
    variants = [
        REQUEST,
        replace(REQUEST, model="other"),
        replace(REQUEST, temperature=1),
        replace(REQUEST, max_tokens=9),
        replace(REQUEST, seed=2),
        replace(REQUEST, logprobs=True),
        replace(REQUEST, logprobs=True, top_logprobs=2),
        replace(REQUEST, response_format={"type": "json_object"}),
        replace(REQUEST, repeat=1),
    ]
    first, second = chats(2)
    keys = {key_of(here.address, variant.body(first), variant.repeat) for variant in variants}
    keys |= {key_of(here.address, REQUEST.body(second), 0), key_of("elsewhere", REQUEST.body(first), 0)}
    assert len(keys) == len(variants) + 2
    for variant in variants[::4]:
        assert ask(here, variant, chats(1), title="x").requests == 1


def test_answers_of_earlier_releases_are_found_in_the_cache() -> None:
    """A key must not change: each changed key is a question that is asked, and paid for, again."""
    request = Request("m", {"a": 1}, temperature=0.0, max_tokens=8, seed=1, logprobs=True, top_logprobs=3, repeat=2)
    body = request.body([Message(role="user", content="배송 late")])
    assert key_of("x", body, request.repeat) == "87ea1384be785044ec59a061ab9db37876b793c445334fff3230785cd6226577"


def test_an_error_of_the_first_request_stops_the_others(config: Config, server: Loopback) -> None:
    with faulty(server.base_url) as proxy:
        proxy.plan(CHAT, *broken(99))
        with pytest.raises(ProviderError, match="HTTP 500"):
            ask(terms(config, proxy.base_url, max_retries=1), REQUEST, chats(50), title="x")
        assert len(proxy.faults[CHAT]) == 97


def test_a_failure_keeps_the_answers_so_far(config: Config, server: Loopback) -> None:
    with faulty(server.base_url) as proxy:
        proxy.plan(CHAT, *fine(20), *broken(30))
        with pytest.raises(ProviderError, match="HTTP 500"):
            ask(terms(config, proxy.base_url, max_retries=0, concurrency=4), REQUEST, chats(50), title="x")
        proxy.plan(CHAT)
        asked = ask(terms(config, proxy.base_url), REQUEST, chats(50), title="x")
    assert labels(asked) == [f"label-{i}" for i in range(50)]
    assert asked.cached >= 20
    assert server.served == 50


def test_no_more_requests_run_at_once_than_allowed(config: Config, server: Loopback) -> None:
    ask(terms(config, server.base_url, concurrency=7), REQUEST, chats(60), title="x")
    assert 3 <= server.most_under_way <= 7  # a busy machine sends a few when others are answered already


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200.0}, {"tokens_per_minute": 1200.0 * 20}])
def test_the_rate_limits_are_kept(config: Config, server: Loopback, limit: dict[str, float]) -> None:
    """1,200 a minute is one in 50 ms: 30 requests take 1.45 s at least; 12 tokens of prompt and 8 of answer each."""
    asked = ask(terms(config, server.base_url, **limit), REQUEST, chats(30), title="x")
    begun = [answer.began for answer in asked.answers]
    assert max(begun) - min(begun) >= 29 * 0.05 - 0.01


def test_retry_after_pauses_all_requests(config: Config, server: Loopback) -> None:
    with faulty(server.base_url) as proxy:
        proxy.retry_after = "1"
        proxy.plan(CHAT, "fine", "429")
        asked = ask(terms(config, proxy.base_url, concurrency=2), REQUEST, chats(30), title="x")
    begun = sorted(answer.began for answer in asked.answers)
    assert max(later - earlier for later, earlier in zip(begun[1:], begun, strict=False)) >= 0.9
    assert sum(answer.retries for answer in asked.answers) == 1


def test_an_address_without_a_server_is_reported_soon(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewtune.providers.retry_policy.FIRST_PAUSE", 0.01)
    with pytest.raises(ProviderError, match="cannot be reached"):
        ask(terms(config, "http://127.0.0.1:9/v1", max_retries=20), REQUEST, chats(3), title="x")


def test_a_refused_connection_is_reported_at_once(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reviewtune.providers.online.asyncio.sleep", _no_pause)
    with pytest.raises(ProviderError, match="cannot be reached"):
        ask(terms(config, "http://127.0.0.1:9/v1"), REQUEST, chats(3), title="x", progress=TerminalProgress())
    (line,) = capsys.readouterr().out.splitlines()
    assert "http://127.0.0.1:9/v1/chat/completions cannot be reached (" in line
    assert line.endswith("; trying 4 more times, for up to 8 s")


async def _no_pause(seconds: float) -> None:
    """In the place of asyncio.sleep."""


def test_an_answer_without_a_count_of_tokens_is_booked_at_its_highest_cost(config: Config) -> None:
    """Otherwise a server that does not count would have no budget."""
    body = completion(usage=None)
    with odd_server({CHAT: lambda _: body}) as server:
        policy = terms(config, server.base_url, budget_usd=1e-5, concurrency=1, **PRICED)
        with pytest.raises(BudgetError, match="every answer so far is kept"):
            ask(policy, REQUEST, chats(2), title="x")
    assert server.count(CHAT) == 1


def test_after_a_kill_at_most_the_running_requests_are_repeated(
    server: Loopback, tmp_path: Path, project: Path
) -> None:
    first = asking_process(server.base_url, 200, home=tmp_path, project=project, concurrency=8)
    wait_for(lambda: server.served >= 150)
    first.kill()
    first.communicate()
    by_then = server.served
    assert 150 <= by_then < 200
    output, _ = asking_process(server.base_url, 200, home=tmp_path, project=project, concurrency=8).communicate()
    requests, cached, _ = json.loads(output.splitlines()[-1])
    assert requests + cached == 200
    assert by_then - cached <= 8  # the concurrency
    assert server.served <= 200 + 8


def test_two_processes_share_the_cache(server: Loopback, tmp_path: Path, project: Path) -> None:
    both = [asking_process(server.base_url, 120, home=tmp_path, project=project) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    with open_store(tmp_path / "cache" / "answers.db") as store:
        assert [share.answers for share in store.shares()] == [120]
    output, _ = asking_process(server.base_url, 120, home=tmp_path, project=project).communicate()
    assert json.loads(output.splitlines()[-1]) == [0, 120, 120]


def test_a_damaged_cache_is_one_line(config: Config, answers: Path) -> None:
    answers.parent.mkdir()
    answers.write_bytes(b"this is not a database" * 99)
    with pytest.raises(CacheError, match=r"answers\.db: file is not a database; .*REVIEWTUNE_HOME") as caught:
        ask(terms(config, "http://127.0.0.1:9/v1"), REQUEST, chats(3), title="x")
    assert "\n" not in str(caught.value)


def test_prune_deletes_answers_that_were_not_used_for_long(config: Config, server: Loopback, answers: Path) -> None:
    ask(terms(config, server.base_url), REQUEST, chats(5), title="x")
    between = time.time()
    ask(terms(config, server.base_url), replace(REQUEST, model="newer"), chats(4), title="x")
    ask(terms(config, server.base_url), REQUEST, chats(2), title="x")
    with open_store(answers) as store:
        assert {share.model: share.answers for share in store.shares()} == {"loopback": 5, "newer": 4}
        assert store.prune(unused_since=between, model="newer") == 0
        assert store.prune(unused_since=between) == 3
        assert store.prune(model="newer") == 4
        assert {share.model: share.answers for share in store.shares()} == {"loopback": 2}


def test_cache_stats_shows_and_cache_prune_deletes_answers(
    config: Config, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(terms(config, server.base_url), REQUEST, chats(5), title="x")
    show_stats()
    assert re.search(r"loopback +│ +5 ", capsys.readouterr().out)
    with pytest.raises(CacheError, match="--unused-for DAYS, --model NAME, both, or --all"):
        prune_answers(None, None, everything=False)
    prune_answers(None, None, everything=True)
    assert re.search(r"5 answers deleted, \d", capsys.readouterr().out)  # and never a negative size


def test_a_cache_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="REVIEWTUNE_HOME"), open_store(tmp_path / "file" / "answers.db"):
        pass


PRICED = {"priced_as": "gpt-4o-mini-2024-07-18"}


def test_a_budget_that_is_too_small_sends_nothing(
    config: Config, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    short = terms(config, server.base_url, budget_usd=0.00001, **PRICED)
    with pytest.raises(BudgetError, match="nothing was sent"):
        ask(short, REQUEST, chats(100), title="x", progress=TerminalProgress())
    assert server.served == 0
    assert "100 requests (online) may cost 0.00" in capsys.readouterr().out


def test_a_budget_is_never_exceeded(config: Config, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says 60 + 8 tokens a request: 13.8e-6 USD each at gpt-4o-mini's prices. A sweep's jobs share it."""
    monkeypatch.setenv("REVIEWTUNE_SWEEP_PARENT", "this-sweep")
    each = (60 * 0.15 + 8 * 0.60) / 1e6
    cap = 50 * each
    here = terms(config, server.base_url, budget_usd=cap, **PRICED)
    with pytest.raises(BudgetError, match="every answer so far is kept"):
        ask(here, REQUEST, chats(100), title="first job")
    assert 30 <= server.served <= 50
    served = server.served
    with pytest.raises(BudgetError):
        ask(here, replace(REQUEST, seed=2), chats(100), title="second job")
    assert server.served * each <= cap
    monkeypatch.setenv("REVIEWTUNE_SWEEP_PARENT", "another-sweep")
    asked = ask(terms(config, server.base_url, budget_usd=1.0, **PRICED), REQUEST, chats(100), title="more")
    assert asked.cached == served
    assert labels(asked) == [f"label-{i}" for i in range(100)]


def test_a_borrowed_cache_keeps_answers_and_spending_where_they_belong(
    config: Config, server: Loopback, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process on another machine: the owner has all answers, and one cap holds for both."""
    owner, each = LentStore(tmp_path / "owner.db"), (60 * 0.15 + 8 * 0.60) / 1e6
    policy = terms(config, server.base_url, budget_usd=50 * each, **PRICED)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("reviewtune.providers.answer_cache._borrowed", BorrowedStore(owner.path, owner))
        with pytest.raises(BudgetError, match="every answer so far is kept"):
            ask(policy, REQUEST, chats(100), title="elsewhere")
    served = server.served
    assert 20 <= served <= 50
    assert not answers.exists()
    monkeypatch.setattr("reviewtune.providers.answer_cache.default_path", lambda: owner.path)
    with pytest.raises(BudgetError):
        ask(policy, replace(REQUEST, seed=2), chats(100), title="here")
    assert server.served * each <= 50 * each
    asked = ask(terms(config, server.base_url), REQUEST, chats(100), title="without a cap")
    assert asked.cached == served


def test_processes_that_share_a_provider_keep_its_limits_together(config: Config) -> None:
    policy = terms(config, "http://127.0.0.1:9/v1", concurrency=7)
    policy = replace(policy, requests_per_minute=90, tokens_per_minute=None).shared_by(3)
    assert (policy.provider.concurrency, policy.requests_per_minute, policy.tokens_per_minute) == (2, 30, None)
    assert policy.shared_by(5).provider.concurrency == 1


def test_a_budget_without_prices_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.budget_usd .*provider\.priced_as"):
        terms(config, "http://127.0.0.1:9/v1", budget_usd=1.0)


@settings(max_examples=40)
@given(
    st.builds(
        Answer,
        st.text(),
        st.text(),
        st.builds(Usage, *[st.integers(0, 10**9)] * 3),
        retries=st.integers(0, 99),
        mode=st.sampled_from(["online", "batch"]),
        began=st.floats(0, 1e10),
        ended=st.floats(0, 1e10),
    )
)
def test_an_answer_is_read_from_the_cache_as_it_was_written(answer: Answer) -> None:
    assert from_json(to_json(answer)) == answer


def test_pauses_between_two_runs_do_not_count_as_time_of_work() -> None:
    spans = [(0, 2), (1, 3), (1, 2), (10, 11), (10.5, 12)]
    answers = [Answer("", "", Usage(), began=began, ended=ended) for began, ended in spans]
    assert busy_seconds(answers) == 5
