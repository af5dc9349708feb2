"""Around every request: its id, key and size, one log line, the metrics, and a response if something crashes."""

import re
import secrets
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reviewtune.deployment.app.metrics import AppMetrics
from reviewtune.deployment.app.problems import CLIENT_GONE, Problem
from reviewtune.deployment.app.request_log import events, requests

BODY_LIMIT = 4 * 2**20  # bytes
OPEN_PATHS = ("/healthz", "/readyz")  # for load balancers, which have no key
PATHS = ("/classify", "/metrics", "/openapi.json", *OPEN_PATHS)
OTHER_PATH = "other"  # in log and metrics: an unknown path may hold anything
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """What is noted about one request; the route adds the number of reviews and who answered."""

    id: str
    method: str
    path: str
    started: float = field(default_factory=time.perf_counter)
    status: int | None = None
    reviews: int = 0
    unusable: int = 0
    model: str | None = None
    version: str | None = None


class RequestMiddleware:
    """An ASGI middleware.

    Args:
        app: the application.
        api_key: the key that requests must carry; None: none.
        names_allowed: whether the Host header may be any name. Without a key, a service for this machine refuses
            names, which a web page could have made lead here.
        metrics: receive path, status and duration of each request.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, names_allowed: bool, metrics: AppMetrics) -> None:
        self._app, self._names_allowed, self._metrics = app, names_allowed, metrics
        self._key = api_key.encode() if api_key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = _exchange(scope, headers)
        scope["state"] = {**scope.get("state", {}), "exchange": exchange}
        completing = _completing(send, exchange)
        try:
            if problem := self._refusal(scope, headers):
                await problem.response(scope, receive, completing)
            else:
                await self._app(scope, _limited(receive), completing)
        except Exception:
            events.exception("request crashed", extra={"facts": {"id": exchange.id}})
            if exchange.status is None:
                await Problem(500, "The service failed on this request; its log has the id.").response(
                    scope, receive, completing
                )
        finally:
            self._note(exchange)

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        """The response to a request that the application must not see."""
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > BODY_LIMIT:
            return _too_large()
        if scope["path"] in OPEN_PATHS:
            return None
        if self._key is None:
            refused = not self._names_allowed and not _is_local(headers.get("host", ""))
            detail = "Without a key this service answers requests to localhost or an IP address only."
            return Problem(403, detail) if refused else None
        return _key_problem(headers.get("authorization", ""), self._key)

    def _note(self, exchange: Exchange) -> None:
        """Write the log line and count the request; a client that hung up gets no status."""
        seconds = time.perf_counter() - exchange.started
        status = exchange.status or CLIENT_GONE
        self._metrics.note_request(exchange.path, status, seconds)
        facts = {
            "id": exchange.id,
            "method": exchange.method,
            "path": exchange.path,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        if exchange.reviews:
            facts |= {"reviews": exchange.reviews, "unusable": exchange.unusable}
            facts |= {"model": exchange.model, "version": exchange.version}
        requests.info("request", extra={"facts": facts})


def _exchange(scope: Scope, headers: Headers) -> Exchange:
    given = headers.get("x-request-id", "")
    return Exchange(
        id=given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16),
        method=scope["method"] if scope["method"] in METHODS else "other",
        path=scope["path"] if scope["path"] in PATHS else OTHER_PATH,
    )


def _completing(send: Send, exchange: Exchange) -> Send:
    """Note the status and add the id to the response."""

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = exchange.id
        await send(message)

    return complete


def _key_problem(authorization: str, wanted: bytes) -> Problem | None:
    scheme, _, key = authorization.partition(" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    if scheme.lower() != "bearer" or not key.strip():
        return Problem(401, "There is no key: send it as 'Authorization: Bearer KEY'.", headers=challenge)
    if not secrets.compare_digest(key.strip().encode(), wanted):
        return Problem(401, "The key is wrong.", headers=challenge)
    return None


def _is_local(host: str) -> bool:
    """Whether the Host header has an IP address or localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _limited(receive: Receive) -> Receive:
    """The request's body, counted, because a chunked one announces no size."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > BODY_LIMIT:
            raise _too_large()
        return message

    return counted


def _too_large() -> Problem:
    return Problem(413, f"The request is too large: at most {BODY_LIMIT // 2**20} MiB.")
