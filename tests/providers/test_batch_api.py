"""The Batch API of the real local server: the answers of single requests, and a killed run never pays twice."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Message
from reviewtune.errors import BudgetError, ProviderError
from reviewtune.providers.completion import Request
from reviewtune.providers.inference import CallPolicy, ask
from tests.support.asking import asking_process
from tests.support.faulty_proxy import Fault, faulty
from tests.support.loopback import loopback
from tests.support.serving import ServerProcess, wait_for

LABELS = {"type": "object", "properties": {"label": {"enum": ["late", "fine"]}}, "required": ["label"]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "issue", "schema": LABELS | {"additionalProperties": False}}}


def chats(n: int, word: str) -> list[list[Message]]:
    return [[Message(role="user", content=f"{word} {i}: it came late")] for i in range(n)]


def request(base: str) -> Request:
    return Request(base, SCHEMA, temperature=0, max_tokens=24, seed=1)


def terms(config: Config, base_url: str, mode: str, **changes: object) -> CallPolicy:
    provider = config.provider.model_copy(update={"base_url": base_url, "timeout": 60.0, "max_retries": 2} | changes)
    return CallPolicy.of(provider, config.evaluation.model_copy(update={"mode": mode}), config.prices)


def batches(server: ServerProcess) -> int:
    return len(list(server.client.batches.list()))


def test_a_batch_answers_as_single_requests_do(config: Config, server: ServerProcess, base: str) -> None:
    online = ask(terms(config, server.base_url, "online"), request(base), chats(12, "a"), title="x")
    batch = ask(terms(config, server.base_url, "batch"), replace(request(base), repeat=1), chats(12, "a"), title="x")
    assert [answer.text for answer in batch.answers] == [answer.text for answer in online.answers]
    assert [answer.usage.completion for answer in batch.answers] == [a.usage.completion for a in online.answers]
    assert {answer.latency for answer in batch.answers} == {None}
    assert batch.seconds > 0
    assert (batch.requests, batch.cached) == (12, 0)
    again = ask(terms(config, server.base_url, "batch"), replace(request(base), repeat=1), chats(12, "a"), title="x")
    assert (again.requests, again.answers) == (0, batch.answers)


def test_only_what_is_missing_goes_into_the_batch(config: Config, server: ServerProcess, base: str) -> None:
    ask(terms(config, server.base_url, "online"), request(base), chats(5, "b"), title="x")
    asked = ask(terms(config, server.base_url, "batch"), request(base), chats(8, "b"), title="x")
    assert (asked.requests, asked.cached) == (3, 5)


def test_with_a_lost_cache_the_batch_is_found_at_the_provider(
    config: Config, server: ServerProcess, base: str, answers: Path
) -> None:
    first = ask(terms(config, server.base_url, "batch"), request(base), chats(6, "c"), title="x")
    answers.unlink()
    before = batches(server)
    again = ask(terms(config, server.base_url, "batch"), request(base), chats(6, "c"), title="x")
    assert [answer.text for answer in again.answers] == [answer.text for answer in first.answers]
    assert (again.requests, batches(server)) == (0, before)


@pytest.mark.parametrize("fault", ["500", "cut before", "cut after"])
def test_an_error_during_creation_leads_to_no_second_batch(
    config: Config, server: ServerProcess, base: str, fault: Fault
) -> None:
    before = batches(server)
    with faulty(server.base_url) as proxy:
        proxy.plan("POST /v1/batches", fault)
        with pytest.raises(ProviderError):
            ask(terms(config, proxy.base_url, "batch"), request(base), chats(6, fault), title="x")
        proxy.plan("GET /v1/batches", "500", "cut after")
        asked = ask(terms(config, proxy.base_url, "batch"), request(base), chats(6, fault), title="x")
    assert asked.requests == (0 if fault == "cut after" else 6)
    assert batches(server) == before + 1


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_an_invalid_request_is_an_unusable_answer_that_is_asked_again(
    config: Config, server: ServerProcess, base: str, mode: str
) -> None:
    """The others are answered and kept. If no request is valid, the run ends."""
    here, wrong = terms(config, server.base_url, mode), [[Message(role="narrator", content=f"{mode} late")]]
    asked = ask(here, request(base), [*wrong, *chats(4, mode)], title="x")
    first, *others = asked.answers
    assert first.unreadable is not None
    assert "HTTP 400: " in first.unreadable
    assert all(answer.text and answer.unreadable is None for answer in others)
    again = ask(here, request(base), [*wrong, *chats(4, mode)], title="x")
    assert (again.requests, again.cached) == (1, 4)
    assert again.answers[0].unreadable == first.unreadable
    with pytest.raises(ProviderError, match="HTTP 400: "):
        ask(here, replace(request(base), seed=2), wrong, title="x")


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_a_review_that_is_too_long_is_an_unusable_answer_with_the_reason(
    config: Config, server: ServerProcess, base: str, mode: str
) -> None:
    """The other reviews are answered, and this one is not asked again."""
    here, long = terms(config, server.base_url, mode), [[Message(role="user", content=f"{mode} was late " * 20_000)]]
    asked = ask(here, request(base), [*long, *chats(4, mode)], title="x")
    first, *others = asked.answers
    assert first.refused is not None
    assert "HTTP 400: This model's maximum context length is 8192 tokens" in first.refused
    assert (first.text, first.usage.prompt) == ("", 0)
    assert all(answer.text and answer.refused is None for answer in others)
    assert ask(here, request(base), [*long, *chats(4, mode)], title="x").requests == 0


def test_a_cancelled_batch_is_reported_and_created_again(config: Config, server: ServerProcess, base: str) -> None:
    with faulty(server.base_url) as proxy:
        proxy.plan("POST /v1/batches", "cut after")
        with pytest.raises(ProviderError):
            ask(terms(config, proxy.base_url, "batch"), request(base), chats(200, "e"), title="x")
        server.client.batches.cancel(next(iter(server.client.batches.list())).id)
        with pytest.raises(ProviderError, match=r"was cancelled, .* run the same command again"):
            ask(terms(config, proxy.base_url, "batch"), request(base), chats(200, "e"), title="x")
        asked = ask(terms(config, proxy.base_url, "batch"), request(base), chats(200, "e"), title="x")
    assert len(asked.answers) == 200


def test_a_batch_that_exceeds_the_budget_is_not_sent(config: Config, server: ServerProcess, base: str) -> None:
    before = batches(server)
    here = terms(config, server.base_url, "batch", priced_as="gpt-4o-mini-2024-07-18")
    here = replace(here, budget_usd=1e-5)
    with pytest.raises(BudgetError):
        ask(here, request(base), chats(9, "f"), title="x")
    assert batches(server) == before


def test_a_provider_without_a_batch_api_is_one_line(config: Config) -> None:
    with loopback(0.0) as server, pytest.raises(ProviderError, match=r"no Batch API; set evaluation\.mode=online"):
        ask(terms(config, server.base_url, "batch"), request("x"), chats(2, "g"), title="x")


@pytest.mark.parametrize("moment", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches"])
def test_a_run_that_is_killed_at_any_moment_is_resumed(
    server: ServerProcess, base: str, tmp_path: Path, project: Path, moment: str
) -> None:
    """Killed when this request has arrived and its answer is lost."""
    before = batches(server)
    with faulty(server.base_url) as proxy:
        lost: Fault = "timeout" if moment.startswith("GET") else "mute after"
        proxy.plan(moment, *[lost] * 9)

        def start() -> "subprocess.Popen[str]":
            return asking_process(
                proxy.base_url, 60, home=tmp_path, project=project, mode="batch", request=asdict(request(base))
            )

        first = start()
        wait_for(lambda: len(proxy.faults[moment]) < 9)
        if moment == "POST /v1/batches":
            wait_for(lambda: proxy.arrived[moment])
        first.kill()
        first.communicate()
        proxy.plan(moment)
        output, _ = start().communicate()
    assert json.loads(output.splitlines()[-1]) == [0 if moment == "POST /v1/batches" else 60, 0, 60]
    assert batches(server) == before + 1
