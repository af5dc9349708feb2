"""A real package index on loopback (PEP 503) that serves a folder of wheels, and breaks off or stalls on demand."""

import os
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

from tests.support.http_servers import serving

Fault = Literal["fine", "cut", "stall", "missing"]
"""`cut`: the connection ends in the middle of the file. `stall`: half the file, then nothing until `release`."""


class PackageIndex:
    """`faults["toy_part2"]` are used up one per download; `downloads` counts those that began."""

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.faults: dict[str, deque[Fault]] = {}
        self.downloads: Counter[str] = Counter()
        self.stalled, self.release = threading.Event(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"

    def _handler(index) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the nested handler has `self`
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").split("/")[-1]
                if name.endswith(".whl"):
                    self.send_file(index.wheels / name)
                else:
                    self.send_page(re.sub(r"[-_.]+", "_", name))

            def send_page(self, project: str) -> None:
                files = [file.name for file in index.wheels.glob(f"{project}-*.whl")]
                page = "".join(f'<a href="/files/{name}">{name}</a>' for name in files).encode()
                self.send_response(200 if files else 404)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def send_file(self, file: Path) -> None:
                project = file.name.partition("-")[0]
                index.downloads[project] += 1
                waiting = index.faults.get(project)
                fault = waiting.popleft() if waiting else "fine"
                if fault == "missing":
                    self.send_error(404)
                    return
                content = file.read_bytes()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content if fault == "fine" else content[: len(content) // 2])
                if fault == "stall":
                    self.wfile.flush()
                    index.stalled.set()
                    index.release.wait(60)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@contextmanager
def serving_index(wheels: Path) -> Iterator[PackageIndex]:
    index = PackageIndex(wheels)
    with serving(index.server):
        try:
            yield index
        finally:
            index.release.set()


def only_this_index(patch: pytest.MonkeyPatch, url: str = "", folder: Path | None = None) -> None:
    """Let pip see one index, or one folder of wheels, or nothing, whatever the machine's settings are."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_CACHE_DIR", "1")
    patch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    patch.setenv("PIP_RETRIES", "0")
    patch.setenv("NO_PROXY", "127.0.0.1")
    if url:
        patch.setenv("PIP_INDEX_URL", url)
    else:
        patch.setenv("PIP_NO_INDEX", "1")
    if folder:
        patch.setenv("PIP_FIND_LINKS", str(folder))
