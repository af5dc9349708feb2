"""A server of this machine answers one request after the other: no more may be sent than are answered in time."""

import threading
import time

import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Message
from reviewtune.providers.inference import ask
from tests.support.asking import REQUEST, terms
from tests.support.odd_server import CHAT, Asked, completion, odd_server

TIMEOUT, EACH, REQUESTS = 4.0, 0.4, 25  # seconds for one answer; all together take two and a half time-outs


@pytest.mark.parametrize("kind", ["local", "compatible"])
def test_requests_that_wait_for_each_other_do_not_time_out(config: Config, kind: str) -> None:
    """Of another server it is not known, so there the last ones are sent again, and computed again."""
    alone = threading.Lock()

    def answer(asked: Asked) -> object:
        with alone:
            time.sleep(EACH)
        return completion()

    long = [[Message(role="user", content=f"number {n} " + "word " * 1_000)] for n in range(REQUESTS)]
    with odd_server({CHAT: answer}) as server:
        policy = terms(config, server.base_url, kind=kind, timeout=TIMEOUT, concurrency=128)
        asked = ask(policy, REQUEST, long, title="x")
        sent = server.count(CHAT)
    assert all(answer.unreadable is None for answer in asked.answers)
    if kind == "local":
        assert (asked.requests, sent) == (REQUESTS, REQUESTS)
        assert max(answer.ended - answer.began for answer in asked.answers) < TIMEOUT
    else:
        assert sent > REQUESTS
