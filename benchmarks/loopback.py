"""A server on loopback that speaks just enough of OpenAI's chat protocol and answers each request after a fixed time.

    python benchmarks/loopback.py --delay 0.2          # prints its base URL, runs until it is stopped

The answer is a label found in the request's own text, so that a lost or swapped answer is noticed. It uses little
CPU itself: it measures the client.
"""

import argparse
import asyncio
import json
import re
from typing import Any

LABEL = re.compile(rb"label-\d+")
MODEL = {"id": "loopback", "object": "model", "created": 0, "owned_by": "nobody"}


class Loopback(asyncio.Protocol):
    """One connection; requests on it arrive one at a time, as HTTP/1.1 clients send them."""

    delay = 0.2
    served = 0
    under_way = 0
    most_under_way = 0
    first_request = last_answer = 0.0  # on the event loop's clock

    def __init__(self) -> None:
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if len(rest) >= (size := int(length[1]) if length else 0):
            self.buffer = rest[size:]
            self.take(head.split(b" ", 2)[1], rest[:size])

    def take(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/stats"):
            self.send(
                {
                    "served": Loopback.served,
                    "most_under_way": Loopback.most_under_way,
                    "seconds": Loopback.last_answer - Loopback.first_request,
                }
            )
        elif path.endswith(b"/models"):
            self.send({"object": "list", "data": [MODEL]})
        elif not path.endswith(b"/chat/completions"):
            self.send({"error": {"message": "unknown path", "type": "invalid_request_error"}}, "404 Not Found")
        else:
            loop = asyncio.get_running_loop()
            Loopback.first_request = Loopback.first_request or loop.time()
            Loopback.under_way += 1
            Loopback.most_under_way = max(Loopback.most_under_way, Loopback.under_way)
            loop.call_later(self.delay, self.answer, body)

    def answer(self, body: bytes) -> None:
        Loopback.under_way -= 1
        Loopback.served += 1
        Loopback.last_answer = asyncio.get_running_loop().time()
        labels = LABEL.findall(body)
        self.send(completion(labels[-1].decode() if labels else "none"))

    def send(self, content: dict[str, Any], status: str = "200 OK") -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        if self.transport and not self.transport.is_closing():
            self.transport.write(head.encode() + body)


def completion(label: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": json.dumps({"label": label}), "refusal": None}
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 0,
        "model": "loopback",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 8, "total_tokens": 68},
    }


async def serve(delay: float, port: int) -> None:
    Loopback.delay = delay
    server = await asyncio.get_running_loop().create_server(Loopback, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before each answer")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(options.delay, options.port))


if __name__ == "__main__":
    main()
