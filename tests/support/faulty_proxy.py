"""A real HTTP proxy on loopback before a real server, that fails on demand and counts what passed through."""

import http.client
import random
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.support.http_servers import serving

Fault = Literal["fine", "429", "500", "cut before", "cut after", "timeout", "mute after", "garbage"]
"""`cut before`: the request never arrives. `cut after`: it is done, but the answer is lost on its way. `timeout`: no
answer until the client hangs up; `mute after`: the same, but it is done. `garbage`: status 200, half an answer."""

HOP = {"transfer-encoding", "connection", "content-length", "host"}


class FaultyProxy:
    """`faults["POST /v1/chat/completions"]` are used up one per request; `arrived` counts what the server saw."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: dict[str, deque[Fault]] = {}
        self.arrived: Counter[str] = Counter()
        self.retry_after = "0.02"  # seconds
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self.server.server_port}{self.upstream.path}"

    def plan(self, request: str, *faults: Fault) -> None:
        self.faults[request] = deque(faults)

    def plan_at_random(self, request: str, n: int, *faults: Fault, share: float, seed: int) -> None:
        """The next n requests: this share of each fault, well mixed."""
        chosen = [fault for fault in faults for _ in range(round(n * share))]
        chosen += ["fine"] * (n - len(chosen))
        random.Random(seed).shuffle(chosen)
        self.plan(request, *chosen)

    def next_fault(self, request: str) -> Fault | None:
        with self.lock:
            waiting = self.faults.get(request)
            return waiting.popleft() if waiting else None

    def forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=120)
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in HOP}
        connection.request(handler.command, handler.path, body or None, headers)
        answer = connection.getresponse()
        with self.lock:
            self.arrived[f"{handler.command} {handler.path.partition('?')[0]}"] += 1
        return answer.status, answer.getheaders(), answer.read()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the nested handler has `self`
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.pass_on()

            do_POST = do_DELETE = do_GET  # noqa: N815

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                fault = proxy.next_fault(f"{self.command} {self.path.partition('?')[0]}")
                if fault in ("429", "500"):
                    self.answer(
                        int(fault), [("retry-after", proxy.retry_after)], b'{"error": {"message": "busy", "type": "x"}}'
                    )
                    return
                if fault == "timeout":
                    self.connection.recv(1)  # returns when the client has hung up
                    self.close_connection = True
                    return
                if fault != "cut before":
                    answer = proxy.forward(self, body)
                if fault == "mute after":
                    self.connection.recv(1)
                    self.close_connection = True
                    return
                if fault == "garbage":
                    answer = (answer[0], answer[1], answer[2][: len(answer[2]) // 2])
                if fault in ("cut before", "cut after"):
                    self.close_connection = True
                    self.connection.close()
                    return
                self.answer(*answer)

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                for key, value in headers:
                    if key.lower() not in HOP:
                        self.send_header(key, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@contextmanager
def faulty(upstream: str) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream)
    with serving(proxy.server):
        yield proxy
