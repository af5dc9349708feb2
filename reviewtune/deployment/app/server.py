"""The server process: its socket, uvicorn, and an end that loses no request."""

import math
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from reviewtune.deployment.app import request_log
from reviewtune.deployment.app.connection import Connection
from reviewtune.deployment.app.request_log import events
from reviewtune.deployment.app.service import build
from reviewtune.deployment.app.settings import AppSettings
from reviewtune.errors import ConfigError

KEEP_ALIVE = 75  # seconds without a request, longer than gateways keep a connection: they end it, not the service
GRACE = 5  # seconds beyond a request's own limit, to send its response


def serve(settings: AppSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run then are finished, within `settings.timeout`.

    Raises:
        ConfigError: the settings do not fit together, the address is in use, or the recording cannot be written.
    """
    settings.check()
    with _listening(settings) as sock:
        request_log.set_up()
        config = uvicorn.Config(
            build(settings),
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(settings.timeout) + GRACE,
            # Not from the variables WEB_CONCURRENCY and FORWARDED_ALLOW_IPS, which may mean another program.
            workers=1,
            proxy_headers=False,
            forwarded_allow_ips="",
        )
        Server(config).run(sockets=[sock])
    events.info("ended")


class Server(uvicorn.Server):
    """uvicorn's server, which says where it serves, and whose exit status is 0 after a signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        host, port = sockets[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        events.info("serving", extra={"facts": {"address": address}})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        events.info("ending", extra={"facts": {"running": len(self.server_state.tasks)}})
        await super().shutdown(sockets)


@contextmanager
def _listening(settings: AppSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    ) as sock:  # without the protocol asyncio leaves Nagle's algorithm on, which costs 40 ms
        if sys.platform != "win32":  # on Windows this option would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as error:
            remedy = "stop the program that listens there, or choose another --host or --port (0 is a free one)"
            message = f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); {remedy}"
            raise ConfigError(message) from error
        yield sock
