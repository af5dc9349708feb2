"""A job that comes too late is refused before a file is sent; the facts and the server itself decide."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core import clock
from reviewtune.core.config.config import Config
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.errors import JobError
from reviewtune.finetuning.jobs import Order, finetune
from reviewtune.providers import lifecycle
from reviewtune.providers.client import connect
from tests.finetuning.test_odd_jobs import MODEL, JobServer, Messages, provider_at
from tests.support.lifecycle import fact, facts
from tests.support.odd_server import Reply, odd_server

BASE = "gpt-4o-mini-2024-07-18"
LAST_JOBS = facts(fact("last_training_day", "2027-01-06", provider="compatible"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobServer]:
    lifecycle.forget_warnings()
    monkeypatch.chdir(tmp_path)
    with odd_server() as odd:
        yield JobServer(odd)


def reports(server: JobServer, value: object) -> None:
    """Let the server report this shutdown date for the base model."""
    listed: dict[str, Any] = {"data": [{"id": BASE, "shutdown_date": value}]}
    server.server.routes["GET /v1/models"] = lambda _: listed


def tuned(config: Config, server: JobServer, known: LifecycleConfig, day: date) -> Messages:
    Path("training.jsonl").write_text('{"messages": []}\n')
    provider = provider_at(config, server, base_model=BASE)
    order = replace(Order(Path("training.jsonl"), None, provider, config.training), lifecycle=known)
    messages = Messages()
    with clock.stopped_at(day), connect(provider) as client:
        assert finetune(client, order, progress=messages).model == MODEL
    return messages


def sent(server: JobServer) -> int:
    """Requests that send something."""
    return sum(asked.method == "POST" for asked in server.server.seen)


def test_on_the_last_day_a_job_is_created_with_a_warning(config: Config, server: JobServer) -> None:
    reports(server, None)
    messages = tuned(config, server, LAST_JOBS, date(2027, 1, 6))
    assert server.created == 1
    (warning,) = [text for text in messages.texts if "last fine-tuning jobs" in text]
    assert warning.startswith(
        f"{BASE} (provider compatible) takes its last fine-tuning jobs on 2027-01-06, today: choose"
    )


def test_on_the_day_after_nothing_is_uploaded(config: Config, server: JobServer) -> None:
    with pytest.raises(
        JobError, match=r"took its last .* 2027-01-06, 1 day ago: choose .* provider=local.*uploaded \(a"
    ):
        tuned(config, server, LAST_JOBS, date(2027, 1, 7))
    assert sent(server) == 0
    assert server.server.count("GET /v1/files") == 0


def test_a_job_of_before_is_found_again_after_the_last_day(config: Config, server: JobServer) -> None:
    tuned(config, server, LAST_JOBS, date(2027, 1, 6))
    tuned(config, server, LAST_JOBS, date(2027, 6, 1))
    assert server.created == 1


@pytest.mark.parametrize("shutdown", ["2027-01-14", 1799884800])
def test_the_server_says_that_its_model_is_gone(config: Config, server: JobServer, shutdown: object) -> None:
    reports(server, shutdown)
    with pytest.raises(JobError, match=r"stopped answering on 2027-01-14, today: .*asked now"):
        tuned(config, server, facts(), date(2027, 1, 14))
    assert sent(server) == 0


def test_the_server_says_that_its_model_will_go(config: Config, server: JobServer) -> None:
    reports(server, "2027-01-14")
    messages = tuned(config, server, facts(), date(2027, 1, 13))
    assert any("stops answering on 2027-01-14, in 1 day" in text for text in messages.texts)
    lifecycle.forget_warnings()
    server.jobs = []
    assert not [text for text in tuned(config, server, facts(), date(2026, 1, 1)).texts if "2027" in text]


@pytest.mark.parametrize("garbled", ["soon", 0, "1970-01-01", [], {"x": 1}, True, 10**15])
def test_a_garbled_date_changes_nothing(config: Config, server: JobServer, garbled: object) -> None:
    reports(server, garbled)
    assert not [text for text in tuned(config, server, facts(), date(2027, 1, 14)).texts if "stop" in text]
    assert server.created == 1


def test_a_server_that_does_not_answer_the_question_still_trains(config: Config, server: JobServer) -> None:
    server.server.routes["GET /v1/models"] = lambda _: Reply(b"down", status=503)
    messages = tuned(config, server, facts(), date(2027, 1, 14))
    assert any(text.startswith(f"not known whether {BASE} ends soon: ") for text in messages.texts)
    assert server.created == 1
    assert server.server.count("GET /v1/models") == 1


def test_a_server_without_the_question_still_trains_without_a_word(config: Config, server: JobServer) -> None:
    assert not [text for text in tuned(config, server, facts(), date(2027, 1, 14)).texts if "ends soon" in text]


def test_the_facts_do_not_change_which_job_it_is(config: Config, server: JobServer) -> None:
    Path("training.jsonl").write_text("{}\n")
    order = Order(Path("training.jsonl"), None, provider_at(config, server), config.training)
    assert replace(order, lifecycle=LAST_JOBS).key == order.key
    assert Order.for_files(config, training=Path("training.jsonl"), validation=None).lifecycle == config.lifecycle
