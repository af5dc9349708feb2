"""Around every request: the key, the size limit, the headers every answer carries, one log line, no bare crash."""

import logging
import secrets
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reviewtune.local_server.logs import facts
from reviewtune.local_server.protocol.api_errors import ApiError, server_error

UPLOAD_LIMIT = 512 * 2**20  # bytes of a file, as OpenAI
BODY_LIMIT = 32 * 2**20  # bytes of any other request
MULTIPART_MARGIN = 2**16  # what a form adds around its file

FOREIGN_HOST = "Without an API key this server answers to localhost only, so that no web page can reach it by a name."

ORGANIZATION = "local"

log = logging.getLogger("reviewtune.requests")


@dataclass(slots=True)
class Activity:
    """When a client was last here; the server that may end itself when idle looks at it."""

    in_flight: int = 0
    last: float = field(default_factory=time.monotonic)

    @property
    def idle_for(self) -> float:
        return 0.0 if self.in_flight else time.monotonic() - self.last


class RequestMiddleware:
    def __init__(self, app: ASGIApp, api_key: str | None, activity: Activity) -> None:
        self._app = app
        self._api_key = api_key
        self._activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        self._activity.in_flight += 1
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await exchange.answer(refusal)
            else:
                await self._app(scope, _limited(scope, receive), exchange.send)
        except Exception as error:
            log.exception("request %s crashed", exchange.id)
            if exchange.status is None:
                await exchange.answer(server_error(f"The server failed on this request ({type(error).__name__})."))
        finally:
            self._activity.in_flight -= 1
            self._activity.last = time.monotonic()
            exchange.log()

    def _refusal(self, scope: Scope) -> ApiError | None:
        """The reason not to look at the request at all."""
        headers = Headers(scope=scope)
        if _size(headers) > _limit(scope):
            return _too_large(scope)
        if self._api_key is None:
            return None if _is_local(headers.get("host", "")) else ApiError(403, FOREIGN_HOST, code="host_not_allowed")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            message = "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
            return ApiError(401, message)
        if not secrets.compare_digest(key.strip().encode(), self._api_key.encode()):
            return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        return None


class _Exchange:
    """One request and its answer, as the log and the headers see them."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = f"req_{secrets.token_hex(16)}"
        self.status: int | None = None
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()

    @property
    def _milliseconds(self) -> int:
        return round((time.perf_counter() - self._started) * 1000)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            headers["openai-processing-ms"] = str(self._milliseconds)
            headers["openai-version"] = "2020-10-01"
            headers["openai-organization"] = ORGANIZATION
        await self._send(message)

    async def answer(self, refusal: ApiError) -> None:
        response = JSONResponse(refusal.body, refusal.status_code)
        await response(self._scope, _nothing, self.send)

    def log(self) -> None:
        """One line; neither query nor body, which may hold reviews."""
        method, path = self._scope["method"], self._scope["path"]
        known = facts(id=self.id, method=method, path=path, status=self.status, ms=self._milliseconds)
        log.info("request", extra=known)


def _is_local(host: str) -> bool:
    """Was the server called by an address, not by a name that a web page may have pointed here?"""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _limited(scope: Scope, receive: Receive) -> Receive:
    """The request's body, until it is too long: a chunked upload announces no size."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > _limit(scope):
            raise _too_large(scope)
        return message

    return counted


def _size(headers: Headers) -> int:
    announced = headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else 0


def _is_upload(scope: Scope) -> bool:
    return bool(scope["method"] == "POST" and scope["path"] == "/v1/files")


def _limit(scope: Scope) -> int:
    return UPLOAD_LIMIT + MULTIPART_MARGIN if _is_upload(scope) else BODY_LIMIT


def _too_large(scope: Scope) -> ApiError:
    limit = UPLOAD_LIMIT if _is_upload(scope) else BODY_LIMIT
    message = f"The request is too large: at most {limit // 2**20} MB."
    return ApiError(413, message, param="file" if _is_upload(scope) else None, code="request_too_large")


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
