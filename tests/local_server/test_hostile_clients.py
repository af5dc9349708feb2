"""Clients that are slow, broken or hostile: others are answered meanwhile, and the server's memory stays bounded."""

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import openai
import psutil
import pytest
from tokenizers import Tokenizer

from reviewtune.local_server.protocol.middleware import BODY_PATIENCE
from tests.local_server.batches.test_conformance import lines_of
from tests.support.serving import ServerProcess, running, upload, wait_for
from tests.support.wire import error_of

HELLO: Any = [{"role": "user", "content": "delivery was bad"}]
WAIT = 20.0  # seconds that an ordinary client may wait; a busy machine needs some of them
GROWTH = 250 * 2**20  # bytes
HEAD = "POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, base: str) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("attacked") / "data", "--base-model", base) as server:
        server.client.chat.completions.create(model=base, messages=HELLO, max_completion_tokens=1)  # loads the model
        yield server


def ask(server: ServerProcess, base: str, **options: Any) -> str:
    started = time.monotonic()
    asked: Any = {"model": base, "messages": HELLO, "max_completion_tokens": 2} | options
    answer = server.client.chat.completions.create(**asked)
    assert time.monotonic() - started < WAIT
    return answer.choices[0].message.content or ""


@contextmanager
def connection(server: ServerProcess, buffer: int | None = None) -> Iterator[socket.socket]:
    host, port = re.findall(r"//([^:/]+):(\d+)", server.base_url)[0]
    with socket.socket() as sock:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.settimeout(60)
        sock.connect((host, int(port)))
        yield sock


def memory(server: ServerProcess) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    return f"{HEAD.format(path=path)}Content-Length: {len(content)}\r\n\r\n".encode() + content


def error_in(answer: bytes) -> dict[str, Any]:
    """The error of an answer as it came over the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def received(sock: socket.socket) -> bytes:
    parts = iter(lambda: sock.recv(65536), b"")
    return b"".join(parts)


def test_clients_that_do_not_read_their_answer(attacked: ServerProcess, base: str) -> None:
    """Long streamed answers with scores; each piece holds all before it, so a queue of them would be large."""
    end = Tokenizer.from_file(f"{base}/tokenizer.json").token_to_id("<|im_end|>")
    long: Any = {"model": base, "stream": True, "logit_bias": {str(end): -100}}
    chat = long | {"messages": HELLO, "max_completion_tokens": 1500, "logprobs": True, "top_logprobs": 20, "n": 2}
    text = long | {"prompt": "delivery was bad", "max_tokens": 1500, "logprobs": 5, "n": 2}
    before = memory(attacked)
    with ExitStack() as stack:
        for path, body in (("chat/completions", chat), ("completions", text)) * 2:
            stack.enter_context(connection(attacked, 4096)).sendall(request(path, body))
        until = time.monotonic() + 8
        while time.monotonic() < until:
            ask(attacked, base)
        assert memory(attacked) - before < GROWTH
    ask(attacked, base)


def test_bodies_that_are_only_half_sent(attacked: ServerProcess, base: str) -> None:
    """They are refused after a while, in OpenAI's shape; files, chats, and chats at Azure's paths."""
    before = memory(attacked)
    paths = ("chat/completions", "completions", "files", "batches")
    with ExitStack() as stack:
        sockets = [stack.enter_context(connection(attacked)) for _ in range(100)]
        for number, sock in enumerate(sockets):
            head = HEAD.format(path=paths[number % len(paths)])
            if number % 5 == 0:
                head = head.replace("/v1/", "/openai/deployments/x/").replace("files", "chat/completions")
            sock.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + b'{"a": "' + b"x" * 100_000)
        started = time.monotonic()
        ask(attacked, base)
        assert memory(attacked) - before < GROWTH
        for sock in sockets:
            answer = received(sock)
            if answer.startswith(b"HTTP/1.1 408"):
                assert error_in(answer)["code"] == "request_timeout"
            else:  # a file is refused at once for what is not a form, an unknown route for its path
                assert answer.startswith((b"HTTP/1.1 4",))
                assert error_in(answer)
        assert time.monotonic() - started < BODY_PATIENCE + WAIT
    ask(attacked, base)


def test_thousands_of_connections_that_are_opened_and_dropped(attacked: ServerProcess, base: str) -> None:
    process = psutil.Process(attacked.process.pid)
    files, before = process.num_fds(), memory(attacked)
    kinds = (b"", b"POST /v1/chat", HEAD.format(path="chat/completions").encode(), b"\x16\x03\x01\x02\x00\x01")
    for number in range(3000):
        with connection(attacked) as sock:
            sock.sendall(kinds[number % len(kinds)])
        if number % 1000 == 0:
            ask(attacked, base)
    ask(attacked, base)
    wait_for(lambda: process.num_fds() <= files + 5, 20)
    assert memory(attacked) - before < GROWTH


def test_what_is_not_http_and_huge_headers(attacked: ServerProcess, base: str) -> None:
    for content in (b"hello\r\n\r\n", HEAD.encode() + b"X-Large: " + b"x" * 2**20):
        with connection(attacked) as sock:
            try:
                sock.sendall(content)
            except (BrokenPipeError, ConnectionResetError):
                continue  # the server has closed it before all was sent
            with ExitStack() as stack:
                stack.enter_context(pytest.raises(ConnectionResetError)) if len(content) > 10**6 else None
                answer = received(sock)
                assert answer.startswith(b"HTTP/1.1 400")
                assert "headers" in error_in(answer)["message"]
                if len(content) > 10**6:
                    raise ConnectionResetError  # not every system resets the connection
    headers = {"x-large": "x" * 60_000}
    assert httpx2.get(f"{attacked.base_url}/models", headers=headers).status_code == 200
    ask(attacked, base)


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    return inner


def doubled(depth: int) -> Any:
    """Each definition is two times the one before: a grammar of 2^depth parts."""
    parts: Any = {"x0": {"type": "object", "properties": {"v": {"type": "string"}}, "additionalProperties": False}}
    for number in range(1, depth):
        before = {"$ref": f"#/$defs/x{number - 1}"}
        both = {"l": {"allOf": [before, before]}, "r": before}
        parts[f"x{number}"] = {"type": "object", "properties": both, "additionalProperties": False}
    return {"$ref": f"#/$defs/x{depth - 1}", "$defs": parts}


SCHEMAS: dict[str, Any] = {
    "nested": nested(200, {"type": "string"}),
    "doubled": doubled(22),
    "properties": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(40_000)}},
    "steps": {"allOf": [{"type": "integer", "multipleOf": 9973}, {"type": "integer", "multipleOf": 9967}]},
    "values": {"type": "string", "enum": [f"value {n}" for n in range(300_000)]},
}


def test_a_host_header_that_is_no_address_is_refused(attacked: ServerProcess) -> None:
    with connection(attacked) as sock:
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: [::1\r\n\r\n")
        assert b" 403 " in sock.recv(100)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_that_explode_stop_nobody(attacked: ServerProcess, base: str, name: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS[name]}}
    body = {"model": base, "messages": HELLO, "max_completion_tokens": 2, "response_format": form}
    before = memory(attacked)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx2.post, f"{attacked.base_url}/chat/completions", json=body, timeout=120)
        asked = 0
        while not answer.done() or not asked:
            ask(attacked, base)
            asked += 1
    error = error_of(answer.result(), 400)
    assert error["param"] == "response_format"
    assert memory(attacked) - before < GROWTH


def test_a_schema_that_explodes_in_a_batch_fails_its_line_only(attacked: ServerProcess, base: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS["steps"]}}
    bodies: Any = {"good": {}, "bad": {"response_format": form}}
    body = {"model": base, "messages": HELLO, "max_completion_tokens": 2}
    url: Any = "/v1/chat/completions"
    lines = [{"custom_id": name, "method": "POST", "url": url, "body": body | more} for name, more in bodies.items()]
    client = attacked.client
    batch = client.batches.create(
        input_file_id=upload(client, lines, "batch").id, endpoint=url, completion_window="24h"
    )
    wait_for(lambda: client.batches.retrieve(batch.id).status == "completed")
    ended = client.batches.retrieve(batch.id)
    assert set(lines_of(client, ended.output_file_id)) == {"good"}
    (entry,) = lines_of(client, ended.error_file_id).values()
    assert entry["response"]["body"]["error"]["param"] == "response_format"


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "responses/input_tokens", "batches"])
def test_deeply_nested_json(attacked: ServerProcess, base: str, path: str) -> None:
    """As deep as the parser allows, and deeper."""
    for depth in (100, 900, 100_000):
        field = {"chat/completions": "messages", "completions": "prompt", "batches": "metadata"}.get(path, "input")
        body = f'{{"model": {json.dumps(base)}, "{field}": {"[" * depth}{"]" * depth}}}'
        headers = {"content-type": "application/json"}
        assert error_of(httpx2.post(f"{attacked.base_url}/{path}", content=body, headers=headers), 400)
    ask(attacked, base)


KINDS = ("chat", "stream", "tool", "completion", "response")


def own_answer(server: ServerProcess, base: str, number: int) -> str:
    """Ask for a word that only this client expects, in one of five ways."""
    word, client = f"word {number}", server.client
    schema: Any = {"type": "object", "properties": {"w": {"const": word}}, "required": ["w"]}
    schema["additionalProperties"] = False
    form: Any = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
    match KINDS[number % len(KINDS)]:
        case "chat":
            text = ask(server, base, response_format=form, max_completion_tokens=64)
        case "stream":
            chunks = client.chat.completions.create(model=base, messages=HELLO, response_format=form, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        case "tool":
            tool: Any = {"type": "function", "function": {"name": "f", "parameters": schema}}
            answer = client.chat.completions.create(model=base, messages=HELLO, tools=[tool], tool_choice="required")
            (call,) = answer.choices[0].message.tool_calls or []
            assert call.type == "function"
            text = call.function.arguments
        case "completion":
            completion = client.completions.create(model=base, prompt=word, max_tokens=1, echo=True)
            return completion.choices[0].text[: len(word)]
        case _:
            own: Any = {"format": {"type": "json_schema", "name": "w", "schema": schema}}
            text = client.responses.create(model=base, input=word, text=own).output_text
    return str(json.loads(text)["w"])


def test_no_answer_is_lost_or_given_to_another(attacked: ServerProcess, base: str) -> None:
    """64 clients at once in five ways, next to others that leave early."""
    with ExitStack() as stack:
        for number in range(16):
            body = {"model": base, "messages": HELLO, "stream": bool(number % 2), "max_completion_tokens": 500}
            with connection(attacked) as sock:
                sock.sendall(request("chat/completions", body))
        pool = stack.enter_context(ThreadPoolExecutor(64))
        answers = list(pool.map(lambda number: own_answer(attacked, base, number), range(192)))
    assert answers == [f"word {number}" for number in range(192)]


def test_nothing_crashed(attacked: ServerProcess) -> None:
    """Comes last: no attack above was a fault of the server."""
    log = attacked.log.read_text()
    assert "Traceback" not in log
    assert "status=500" not in log
    with pytest.raises(openai.NotFoundError):
        attacked.client.files.retrieve("file-0")
