"""A small HTTP server on loopback: it answers every request with the same JSON, and keeps the requests' headers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.http_servers import serving

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}],  # so that it is a list of models as well
}


class EchoServer:
    """`requests` are the paths that arrived, each with its headers."""

    def __init__(self, answer: object, host: str, port: int) -> None:
        self.requests: list[tuple[str, Message]] = []
        self._answer = json.dumps(answer).encode()
        self.server = ThreadingHTTPServer((host, port), self._handler())
        self.port = self.server.server_port

    def _handler(echo) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the nested handler has `self`
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                echo.requests.append((self.path, self.headers))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(echo._answer)))
                self.end_headers()
                self.wfile.write(echo._answer)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def echo_server(answer: object = ANSWER, host: str = "127.0.0.1", port: int = 0) -> Iterator[EchoServer]:
    echo = EchoServer(answer, host, port)
    with serving(echo.server):
        yield echo
