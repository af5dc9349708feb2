"""Clients of a busy server: those that go away stop its work, and short answers do not wait for long ones."""

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from tokenizers import Tokenizer

from tests.support.serving import ServerProcess, running, wait_for

HELLO: Any = [{"role": "user", "content": "delivery was bad"}]


@pytest.fixture(scope="module")
def endless(tiny_model: Path) -> dict[str, Any]:
    """Options of a request whose answer takes half a minute."""
    end = Tokenizer.from_file(str(tiny_model / "tokenizer.json")).token_to_id("<|im_end|>")
    more = {"n": 4, "max_completion_tokens": 7000, "logit_bias": {str(end): -100}}
    return {"messages": HELLO, "temperature": 0, **more}


@pytest.fixture
def one_place(tmp_path: Path, base: str) -> Iterator[ServerProcess]:
    """A server that admits one chat at a time, so that the next one shows whether the first has left."""
    with running(tmp_path / "data", "--base-model", base, "--max-waiting", "1") as server:
        ask(server.client, base)
        yield server


def ask(client: openai.OpenAI, base: str) -> str | None:
    answer = client.chat.completions.create(model=base, messages=HELLO, max_completion_tokens=1)
    return answer.choices[0].message.content


def is_free(client: openai.OpenAI, base: str) -> bool:
    try:
        return ask(client, base) is not None
    except openai.RateLimitError:
        return False


def test_a_client_that_times_out_frees_its_place(one_place: ServerProcess, base: str, endless: dict[str, Any]) -> None:
    with pytest.raises(openai.APITimeoutError):
        one_place.client.with_options(timeout=1).chat.completions.create(model=base, **endless)
    wait_for(lambda: is_free(one_place.client, base), 5)


def test_a_client_that_closes_a_stream_frees_its_place(
    one_place: ServerProcess, base: str, endless: dict[str, Any]
) -> None:
    with one_place.client.chat.completions.create(model=base, **endless, stream=True) as chunks:
        next(iter(chunks))
        assert not is_free(one_place.client, base)
    wait_for(lambda: is_free(one_place.client, base), 5)


def test_a_client_that_leaves_before_the_first_piece_of_a_stream(one_place: ServerProcess, base: str) -> None:
    """The connection is cut as soon as the request is sent."""
    host, port = re.findall(r"//([^:/]+):(\d+)", one_place.base_url)[0]
    body = b'{"model": "%s", "stream": true, "messages": [{"role": "user", "content": "%s"}]}'
    body %= base.encode(), b"bad case " * 500
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: is_free(one_place.client, base), 5)
    assert ask(one_place.client, base) is not None


def test_short_answers_do_not_wait_for_a_long_one(client: openai.OpenAI, base: str, endless: dict[str, Any]) -> None:
    with client.chat.completions.create(model=base, **endless, stream=True) as long:
        chunks = iter(long)
        next(chunks)
        with ThreadPoolExecutor(8) as pool:
            assert all(answer is not None for answer in pool.map(lambda _: ask(client, base), range(32)))
        started = time.monotonic()
        next(chunks)  # the long answer is still being written
        assert time.monotonic() - started < 30
