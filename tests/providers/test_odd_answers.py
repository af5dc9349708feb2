"""Chat completions as servers send them: each is read, or it is one unusable answer that stops no other."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.errors import ProviderError
from reviewtune.evaluation.label_scoring.label_logprobs import label_scores
from reviewtune.evaluation.subject import why_unusable
from reviewtune.providers.answer_cache import open_store
from reviewtune.providers.completion import Answer, from_json, to_json
from reviewtune.providers.inference import Answers, ask
from reviewtune.providers.online import MOST_IN_A_ROW
from reviewtune.providers.pricing import Usage
from reviewtune.providers.responses import http_client
from reviewtune.providers.responses.completion_body import read_completion
from reviewtune.providers.responses.json_text import UnreadableError
from tests.support.asking import REQUEST, chats, terms
from tests.support.odd_server import CHAT, Asked, OddServer, Reply, bodies, completion, odd_server

ODD = "label-2 "  # begins the review whose answer is odd


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddServer]:
    monkeypatch.setattr("reviewtune.providers.retry_policy.FIRST_PAUSE", 0.001)
    with odd_server() as server:
        yield server


def asked_with(config: Config, server: OddServer, reply: object, *, n: int = 5, **changes: Any) -> Answers:
    """Ask about n reviews; the third one gets this reply, the others a good one."""
    server.routes[CHAT] = lambda asked: reply if asked.review.startswith(ODD) else completion()
    return ask(
        terms(config, server.base_url, **{"concurrency": 4, "max_retries": 3, **changes}), REQUEST, chats(n), title="x"
    )


READ: list[tuple[dict[str, Any], Answer]] = [
    (completion("a", finish_reason=None), Answer("a", "unknown", Usage(9, 0, 3))),
    (completion("a", usage={"prompt_tokens": None, "completion_tokens": None}), Answer("a", "stop", Usage())),
    (completion("a", usage=None), Answer("a", "stop", Usage())),
    (completion("a", usage={"prompt_tokens": 5, "prompt_tokens_details": []}), Answer("a", "stop", Usage(5))),
    (
        completion("a", usage={"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 7}}),
        Answer("a", "stop", Usage(5, 5)),
    ),
    (completion("a", usage={"prompt_tokens": "5", "completion_tokens": -1}), Answer("a", "stop", Usage(5))),
    (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Answer("ab", "stop", Usage(9, 0, 3))),
    (completion([{"type": "thinking", "thinking": []}, {"text": "b"}]), Answer("b", "stop", Usage(9, 0, 3))),
    (completion({"label": "late"}), Answer('{"label": "late"}', "stop", Usage(9, 0, 3))),
    (completion("half \ud83d"), Answer("half �", "stop", Usage(9, 0, 3))),
    (completion("a", logprobs={}), Answer("a", "stop", Usage(9, 0, 3))),
    (completion("a", logprobs={"content": None}), Answer("a", "stop", Usage(9, 0, 3))),
    (completion("a", logprobs={"content": [{"token": "a"}]}), Answer("a", "stop", Usage(9, 0, 3))),
    (completion(None, finish_reason="length"), Answer("", "length", Usage(9, 0, 3))),
    (completion(""), Answer("", "stop", Usage(9, 0, 3))),
    (
        completion(message={"role": "assistant", "refusal": "I can't"}),
        Answer("", "stop", Usage(9, 0, 3), refused="the model refused: I can't"),
    ),
]


@pytest.mark.parametrize(("body", "answer"), READ)
def test_what_is_there_is_read(body: dict[str, Any], answer: Answer) -> None:
    assert read_completion(json.dumps(body).encode()) == answer
    assert from_json(to_json(answer)) == answer


UNREADABLE: list[tuple[object, str]] = [
    ({}, "no chat completion: an empty object"),
    ({"choices": []}, "no chat completion"),
    ({"choices": None, "detail": "overloaded"}, "HTTP 200 with an error: overloaded"),
    ({"error": {"message": "out of memory", "code": 500}}, "HTTP 200 with an error: out of memory"),
    ({"error": "out of memory"}, "HTTP 200 with an error: out of memory"),
    (completion(None), "an answer without text"),
    (completion(message=None), "an answer without text"),
    (["a"], "a list instead of a chat completion"),
    (Reply(b""), "not valid JSON: an empty body"),
    (Reply(b"<html>"), "not valid JSON: '<html>'"),
    (Reply(b"[" * 100_000), "nested too deeply"),
    (Reply(b'{"error": {"message": "odd label"}}', status=400), "HTTP 400: odd label"),
    (Reply(b"<title>Blocked</title>", status=403), "HTTP 403: Blocked"),
    (Reply(b"", endless=b" " * 65536), "more than 1 MiB"),
    (Reply(b"", endless=b" ", pace=0.05), "did not end within"),
]


@pytest.mark.parametrize(("reply", "reason"), UNREADABLE)
def test_an_unreadable_answer_is_unusable_and_stops_no_other(
    config: Config, server: OddServer, monkeypatch: pytest.MonkeyPatch, reply: object, reason: str
) -> None:
    monkeypatch.setattr(http_client.BodyLimit.__init__, "__defaults__", (2**20,))
    asked = asked_with(config, server, reply, timeout=0.3)
    assert [answer.text for answer in asked.answers] == ['{"label": "fine"}'] * 2 + [""] + ['{"label": "fine"}'] * 2
    assert reason in (asked.answers[2].unreadable or "")
    assert reason in why_unusable(asked.answers[2])
    repaired = asked_with(config, server, completion("late"))
    assert (repaired.answers[2].text, repaired.cached, repaired.requests) == ("late", 4, 1)


def test_an_unreadable_answer_alone_does_not_stop_a_later_run(config: Config, server: OddServer) -> None:
    asked_with(config, server, {})
    again = asked_with(config, server, {})
    assert again.cached == 4
    assert again.answers[2].unreadable


def test_only_unreadable_answers_end_the_run_soon(config: Config, server: OddServer) -> None:
    server.routes[CHAT] = lambda _: Reply(b"<html><title>Welcome</title></html>")
    with pytest.raises(ProviderError, match=r"not valid JSON: '<html>.*is provider\.base_url right"):
        ask(terms(config, server.base_url), REQUEST, chats(200), title="x")
    assert server.count(CHAT) <= 20


def test_a_server_that_stops_answering_ends_the_run(config: Config, server: OddServer) -> None:
    """As a proxy does that shows a page to everybody from some moment on; answers so far are kept."""
    server.routes[CHAT] = lambda _: completion() if server.count(CHAT) <= 30 else Reply(b"<html>Log in</html>")
    policy = terms(config, server.base_url, concurrency=4, max_retries=0)
    with pytest.raises(ProviderError, match="not valid JSON: '<html>Log in"):
        ask(policy, REQUEST, chats(200), title="x")
    assert server.count(CHAT) <= 30 + MOST_IN_A_ROW + 2 * 4
    server.routes[CHAT] = lambda _: completion()
    assert ask(policy, REQUEST, chats(200), title="x").cached == 30


def test_a_server_error_for_one_review_is_an_unusable_answer(config: Config, server: OddServer) -> None:
    """While others are answered; a server that answers nobody is not working."""
    broken = Reply(b'{"error": "assertion failed"}', status=500)

    def reply(asked: Asked) -> object:
        return broken if asked.review.startswith(ODD) else completion()

    server.routes[CHAT] = reply
    policy = terms(config, server.base_url, concurrency=2, max_retries=3)
    asked = ask(policy, REQUEST, chats(80), title="x")
    assert asked.answers[2].unreadable == "HTTP 500: assertion failed"
    server.routes[CHAT] = lambda _: broken
    with pytest.raises(ProviderError, match="HTTP 500: assertion failed"):
        ask(policy, replace(REQUEST, seed=2), chats(9), title="x")


TOP = {"token": "x", "logprob": -2, "bytes": [120]}
WHOLE = completion(
    '{"label": "late"}',
    logprobs={
        "content": [
            {
                "token": word,
                "logprob": -0.1,
                "bytes": list(word.encode()),
                "top_logprobs": [{"token": "x", "logprob": -2}],
            }
            for word in ('{"label": "', "late", '"}')
        ]
    },
    usage={"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
)


@settings(max_examples=300)
@given(bodies(WHOLE))
@example(Reply(json.dumps(WHOLE).encode()))
def test_any_body_is_an_answer_or_unreadable(reply: Reply) -> None:
    """An answer can be kept, counted and scored, whatever is in it."""
    try:
        answer = read_completion(reply.body)
    except UnreadableError:
        return
    assert from_json(to_json(answer)) == answer
    assert 0 <= answer.usage.cached <= answer.usage.prompt
    scores = label_scores(
        ["late", "fine"], [answer.logprobs], [{"late": b'{"label": "late"', "fine": b'{"label": "fine"'}]
    )
    assert scores.logprobs.shape == (1, 2)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=bodies(completion()), seed=st.integers(1, 10**9))
def test_no_answer_of_a_server_stops_the_others(config: Config, server: OddServer, reply: Reply, seed: int) -> None:
    server.routes[CHAT] = lambda asked: reply if asked.review.startswith(ODD) else completion("fine")
    asked = ask(terms(config, server.base_url), replace(REQUEST, seed=seed), chats(5), title="x")
    assert [answer.text for answer in (*asked.answers[:2], *asked.answers[3:])] == ["fine"] * 4
    with open_store() as store:
        kept = sum(share.answers for share in store.shares())
        store.prune()
    assert kept == (4 if asked.answers[2].unreadable else 5)
