"""A real HTTP server that speaks the OpenAI protocol as a test says: each path has a function that replies."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hypothesis import strategies as st

from tests.support.http_servers import serving

CHAT = "POST /v1/chat/completions"


@dataclass(frozen=True)
class Asked:
    """A request; `body` is its JSON, or its bytes if it is something else."""

    method: str
    path: str
    body: Any

    @property
    def review(self) -> str:
        """The last message of a chat."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """A response. `endless` is sent again and again after the body, with a pause of `pace` seconds."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bytes = b""
    pace: float = 0.0


Route = Callable[[Asked], Reply | object]


class OddServer(ThreadingHTTPServer):
    """`routes["POST /v1/files"]` replies to this request; a value that is not a `Reply` is sent as JSON.

    A route may end in `*`. Requests without a route get HTTP 404. `seen` lists all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, Route] = {}
        self.seen: list[Asked] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def count(self, route: str) -> int:
        return sum(_matches(route, asked) for asked in self.seen)

    def reply(self, asked: Asked) -> Reply:
        for route, answer in self.routes.items():
            if _matches(route, asked):
                value = answer(asked)
                return value if isinstance(value, Reply) else Reply(json.dumps(value).encode())
        return Reply(b'{"error": {"message": "no such route"}}', status=404)

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""


def _matches(route: str, asked: Asked) -> bool:
    request = f"{asked.method} {asked.path}"
    return request == route or (route.endswith("*") and request.startswith(route[:-1]))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OddServer

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        body: Any = content
        with suppress(ValueError):
            body = json.loads(content)
        asked = Asked(self.command, self.path.partition("?")[0], body)
        self.server.seen.append(asked)
        self._send(self.server.reply(asked))

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        if not reply.endless and "content-length" not in reply.headers:
            self.send_header("content-length", str(len(reply.body)))
        self.close_connection = reply.headers.get("connection") == "close"
        self.end_headers()
        self.wfile.write(reply.body)
        while reply.endless:
            self.wfile.write(reply.endless)
            time.sleep(reply.pace)

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@contextmanager
def odd_server(routes: dict[str, Route] | None = None) -> Iterator[OddServer]:
    server = OddServer()
    server.routes.update(routes or {})
    with serving(server):
        yield server


def completion(text: object = '{"label": "fine"}', **changes: object) -> dict[str, Any]:
    """A chat completion; `changes` are fields of its choice, with `usage` as an exception."""
    usage = changes.pop("usage", {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})
    message = changes.pop("message", {"role": "assistant", "content": text, "refusal": None})
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, **changes}
    body: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return body | {"choices": [choice], "usage": usage}


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, small ones first; also what only lenient readers accept."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800")
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=6)


NAMES = ("id", "object", "data", "choices", "message", "content", "error", "status", "detail", "text", "has_more")


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES), values, max_size=4)


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """The value with one to three of its parts missing, null, empty, wrapped in a list or replaced."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return value
        holder, key = draw(st.sampled_from(places))
        _damage(draw, holder, key)
    return value


def _damage(draw: st.DrawFn, holder: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["missing", "value", "list", "other"]))
    if kind == "missing":
        del holder[key]
    elif kind == "value":
        holder[key] = draw(st.sampled_from([None, "", [], {}, 0, -1, 1e300, "x", True]))
    else:
        holder[key] = [holder[key]] if kind == "list" else draw(json_values())


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each part of a JSON value, as its holder and its key or index."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])


def bodies(whole: Any) -> st.SearchStrategy[Reply]:
    """Replies of a server: damaged, any other JSON, garbled, empty or too deeply nested."""
    text = json.dumps(whole).encode()
    values = (damaged(whole) | json_values()).map(lambda value: Reply(json.dumps(value).encode()))
    cut = st.integers(0, len(text)).map(lambda end: Reply(text[:end]))
    fixed = [b"", b"<html><title>Bad gateway</title></html>", b"\xff\xfe{", b"[" * 2000, b'{"a":' * 2000, b"null"]
    return values | cut | st.sampled_from([Reply(body) for body in fixed])
