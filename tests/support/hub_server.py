"""A real HTTP server that answers as the Hugging Face hub does for one model, and 404 for others."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.http_servers import serving

COMMIT = "0" * 40


class HubServer:
    """Serves a folder as the model `owner/toy`; `downloads` counts files, `refused` names files it does not give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.downloads: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.delay = 0.0  # seconds before a file is sent
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the nested handler has `self`
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path.startswith("/api/models/owner/toy/tree/"):
                    self.send_json(200, [entry(file) for file in hub.folder.iterdir()])
                elif path.startswith("/api/models/owner/toy"):
                    files = [{"rfilename": file.name} for file in hub.folder.iterdir()]
                    self.send_json(200, {"id": "owner/toy", "sha": COMMIT, "siblings": files})
                elif path.startswith("/owner/toy/resolve/") and (hub.folder / path.split("/")[-1]).is_file():
                    self.send_file(hub.folder / path.split("/")[-1])
                else:
                    self.send_json(404, {"error": "Repository not found"}, [("X-Error-Code", "RepoNotFound")])

            def send_json(self, status: int, content: object, headers: list[tuple[str, str]] | None = None) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                for name, value in [*(headers or []), ("content-type", "application/json")]:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def send_file(self, file: Path) -> None:
                if file.name in hub.refused:
                    self.send_json(403, {"error": "no"})
                    return
                content = file.read_bytes()
                if self.command == "GET":
                    time.sleep(hub.delay)
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.send_header("etag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("x-repo-commit", COMMIT)
                self.end_headers()
                if self.command == "GET":
                    hub.downloads[file.name] += 1
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def entry(file: Path) -> dict[str, object]:
    oid = hashlib.sha1(file.read_bytes()).hexdigest()
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid}


@contextmanager
def serving_hub(folder: Path) -> Iterator[HubServer]:
    hub = HubServer(folder)
    with serving(hub.server):
        yield hub
