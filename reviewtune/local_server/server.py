"""The server process: one per folder, an address that other programs can find, and a clean end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import uvicorn
from filelock import FileLock, Timeout

from reviewtune.core.user_dirs import SERVER_FILE, require_engine, running_server, start_of
from reviewtune.errors import ProviderError
from reviewtune.local_server import app, logs
from reviewtune.local_server.batches.service import has_active_batch
from reviewtune.local_server.fine_tuning.job_folder import write_json
from reviewtune.local_server.fine_tuning.service import has_active_job
from reviewtune.local_server.models.service import check_aliases
from reviewtune.local_server.protocol.connection import Connection
from reviewtune.local_server.protocol.middleware import Activity
from reviewtune.local_server.settings import Settings
from reviewtune.local_server.storage.account import Account, open_account
from reviewtune.local_server.storage.tables import now

PATIENCE = 15.0  # seconds to wait for another server that is just starting or ending
KEEP_ALIVE = 75  # seconds without a request; clients reuse a connection for 5, and must not find it just closed
GRACE = 3  # seconds for requests in progress when the server ends

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until a signal or the idle limit ends the server.

    Raises:
        ProviderError: the server cannot start.
    """
    logs.set_up(settings.log_format, settings.log_file)
    _check_key(settings)
    require_engine()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(settings.data_dir)  # /tmp may be in memory, and an upload can have 512 MB
    with _alone(settings.data_dir), _listening(settings) as sock:
        account = open_account(settings)
        check_aliases(account)
        activity = Activity()
        application = app.build(account, activity)
        config = uvicorn.Config(
            application,
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            # Not from the variables WEB_CONCURRENCY and FORWARDED_ALLOW_IPS, which mean another program.
            workers=1,
            proxy_headers=False,
            forwarded_allow_ips="",
        )
        server = Server(config, account, activity)
        server.run(sockets=[sock])
        account.database.close()
    if not getattr(application.state, "engine_at_rest", False):
        os._exit(0)  # a model still runs in a thread that nothing else can stop; everything is on disk


class Server(uvicorn.Server):
    """uvicorn's server, with exit status 0 after a signal, and a shutdown when idle."""

    def __init__(self, config: uvicorn.Config, account: Account, activity: Activity) -> None:
        super().__init__(config)
        self._account = account
        self._activity = activity

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
        _announce(self._account.settings, sockets[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        (self._account.settings.data_dir / SERVER_FILE).unlink(missing_ok=True)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        limit = self._account.settings.idle_exit
        idle = limit is not None and self._activity.idle_for > limit
        if idle and not await asyncio.to_thread(_busy, self._account) and self._activity.idle_for > (limit or 0):
            log.info("no request for %g s and nothing to do: shutting down", limit)
            return True
        return await super().on_tick(counter)


def _busy(account: Account) -> bool:
    with account.database.reading() as session:
        return has_active_job(session) or has_active_batch(session)


def _check_key(settings: Settings) -> None:
    """Refuse a key that no request can carry, and an address for other machines without a key."""
    if settings.api_key and not (settings.api_key.isascii() and settings.api_key.isprintable()):
        raise ProviderError("the API key has characters that a request cannot carry; use letters, digits and signs")
    if settings.api_key is None and not _is_loopback(settings.host):
        message = f"--host {settings.host} is reachable from other machines, but no API key is set; "
        raise ProviderError(message + "set REVIEWTUNE_API_KEY, or use --host 127.0.0.1")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Be the only server of this folder, or raise an error with the other one's address."""
    lock = FileLock(data_dir / "server.lock")
    _wait_for(lock, data_dir)
    announcement = data_dir / SERVER_FILE
    announcement.unlink(missing_ok=True)  # left by a server that was killed
    try:
        yield
    finally:
        announcement.unlink(missing_ok=True)
        lock.release()


def _wait_for(lock: FileLock, data_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        running = running_server(data_dir)
        if running or time.monotonic() > deadline:
            where = running.address if running else "it is just starting or ending"
            raise ProviderError(f"another server already serves {data_dir}: {where}; use it, or stop it")
        time.sleep(0.1)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    ) as sock:  # without the protocol asyncio leaves Nagle's algorithm on, which costs 40 ms
        if sys.platform != "win32":  # on Windows this option would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as error:
            remedy = "stop the program that listens there, choose another --port, or use --port 0 for a free one"
            message = f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); {remedy}"
            raise ProviderError(message) from error
        yield sock


def _announce(settings: Settings, sock: socket.socket) -> None:
    """Write the address to server.json; called only when requests are answered."""
    process = psutil.Process()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base_url = f"http://{host}:{sock.getsockname()[1]}/v1"
    content = {
        "pid": process.pid,
        "create_time": start_of(process),
        "base_url": base_url,
        "started": now(),
        "base_models": list(settings.offered),
    }
    write_json(settings.data_dir / SERVER_FILE, content)
    log.info("serving %s at %s", settings.data_dir, base_url)
