"""The middleware around every request: API key, size limit, response headers, one log line, and a 500 for a crash."""

import asyncio
import logging
import secrets
import signal
import time
from dataclasses import dataclass, field
from importlib import import_module
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reviewtune.core.user_dirs import ENGINE_PACKAGES
from reviewtune.local_server.engine.base_models.disk_space import lacks_space
from reviewtune.local_server.logs import facts
from reviewtune.local_server.protocol.api_errors import ApiError, disk_full, server_error
from reviewtune.local_server.protocol.azure_paths import as_openai, is_azure

UPLOAD_LIMIT = 512 * 2**20  # bytes of a file, as at OpenAI
BODY_LIMIT = 32 * 2**20  # bytes of any other request
BODY_PATIENCE = 15.0  # seconds without a byte of a body that is not complete
MULTIPART_MARGIN = 2**16  # bytes that a form adds around its file

FOREIGN_HOST = "Without an API key this server answers to localhost only, so that no web page can reach it by a name."
FOREIGN_PAGE = "Without an API key this server answers to programs of this machine, not to web pages of others."

ORGANIZATION = "local"
HEALTH = "/healthz"

log = logging.getLogger("reviewtune.requests")


@dataclass(slots=True)
class Activity:
    """When the last request ended; the server reads it to shut down when idle."""

    in_flight: int = 0
    last: float = field(default_factory=time.monotonic)

    @property
    def idle_for(self) -> float:
        """Seconds since the last request ended."""
        return 0.0 if self.in_flight else time.monotonic() - self.last


class RequestMiddleware:
    """An ASGI middleware: checks a request before the application sees it, and completes every response."""

    def __init__(self, app: ASGIApp, api_key: str | None, activity: Activity) -> None:
        self._app = app
        self._api_key = api_key
        self._activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        if is_azure(scope):  # its body is counted before the model is put into it, by the limit of OpenAI's path
            openai_scope, _ = as_openai(scope, receive)
            scope, receive = as_openai(scope, _limited(openai_scope, receive))
        else:
            receive = _limited(scope, receive)
        self._activity.in_flight += 1
        try:
            error = self._check(scope)
            if error is not None:
                await exchange.answer(error)
            else:
                await self._app(scope, receive, exchange.send)
        except Exception as crash:
            log.exception("request %s crashed", exchange.id)
            engine_fault = _engine_fault(crash)
            if exchange.status is None:
                await exchange.answer(_error_of(crash, engine_fault))
            if engine_fault:  # all others would get the same answer
                signal.raise_signal(signal.SIGTERM)
        finally:
            self._activity.in_flight -= 1
            self._activity.last = time.monotonic()
            exchange.log()

    def _check(self, scope: Scope) -> ApiError | None:
        """The error for a request that the application must not see."""
        headers = Headers(scope=scope)
        if _size(headers) > _limit(scope):
            return _too_large(scope)
        if self._api_key is None:
            if _is_of_a_page(headers):
                return ApiError(403, FOREIGN_PAGE, code="origin_not_allowed")
            return None if _is_local(headers.get("host", "")) else ApiError(403, FOREIGN_HOST, code="host_not_allowed")
        if is_open(scope):
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            key = headers.get("api-key", "")  # Azure's header
        if not key.strip():
            return ApiError(401, _missing_key(headers))
        if not secrets.compare_digest(key.strip().encode(), self._api_key.encode()):
            return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        return None


def is_open(scope: Scope) -> bool:
    """Whether this asks for the health and gives no key, as programs that watch a service do."""
    headers = Headers(scope=scope)
    return scope["path"] == HEALTH and not any(name in headers for name in ("authorization", "api-key"))


class _Exchange:
    """One request and its response: adds the headers and writes the log line."""

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

    async def answer(self, error: ApiError) -> None:
        response = JSONResponse(error.body, error.status_code, error.headers)
        await response(self._scope, _nothing, self.send)

    def log(self) -> None:
        """Log one line, without query and body, which may contain reviews."""
        method, path = self._scope["method"], self._scope["path"]
        fields = facts(id=self.id, method=method, path=path, status=self.status, ms=self._milliseconds)
        log.info("request", extra=fields)


def _error_of(crash: Exception, engine_fault: str | None) -> ApiError:
    """The error for a request that the server failed on. What cannot be imported now cannot be later: no retries."""
    if isinstance(crash, OSError) and lacks_space(crash):
        return disk_full("the server")
    if engine_fault:
        reason = f"The server's installation is damaged ({engine_fault}), so it ends: install its packages again"
    elif isinstance(crash, ImportError):
        reason = f"The model cannot be loaded: {crash}"
    else:
        return server_error(f"The server failed on this request ({type(crash).__name__}).")
    error = ApiError(503, " ".join(reason.split()) + ".", type_="server_error", code="model_unavailable")
    error.headers = {"x-should-retry": "false"}
    return error


def _engine_fault(crash: Exception) -> str | None:
    """Why no model can be loaded at all, or None: a missing library may also concern one model only."""
    is_of_files = isinstance(crash, OSError) and crash.errno is not None  # a library that is damaged has no number
    for name in ENGINE_PACKAGES if isinstance(crash, ImportError | OSError) and not is_of_files else ():
        try:
            import_module(name)
        except (ImportError, OSError) as error:
            return f"{name}: {error}"
    return None


def _missing_key(headers: Headers) -> str:
    instead = ", not as 'x-api-key'" if "x-api-key" in headers else ""
    return f"You didn't provide an API key: send it as 'Authorization: Bearer KEY'{instead}."


def _is_local(host: str) -> bool:
    """Whether the request names an IP address or localhost, and not a host name that a web page may point here."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _is_of_a_page(headers: Headers) -> bool:
    """Whether a web page of another machine sends this; browsers let any page send a form anywhere."""
    origin = headers.get("origin")
    if origin is not None:
        return origin == "null" or not _is_local(urlsplit(origin).netloc)
    return headers.get("sec-fetch-site") == "cross-site"


def _limited(scope: Scope, receive: Receive) -> Receive:
    """The request's body, counted, because a chunked upload announces no size.

    Too many bytes, or a client that sends nothing for BODY_PATIENCE seconds, raise ApiError.
    """
    received, is_complete = 0, False

    async def counted() -> Message:
        nonlocal received, is_complete
        if is_complete:  # then the application waits for the client to go away
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_PATIENCE)
        except TimeoutError:
            reason = f"The request is incomplete: nothing more of its body came for {BODY_PATIENCE:g} s."
            raise ApiError(408, reason, code="request_timeout") from None
        is_complete = not message.get("more_body")
        received += len(message.get("body", b""))
        if received > _limit(scope):
            raise _too_large(scope)
        return message

    return counted


def _size(headers: Headers) -> int:
    announced = headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else 0


def _is_upload(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return bool(scope["method"] == "POST" and scope["path"] == "/v1/files" and kind == "multipart/form-data")


def _limit(scope: Scope) -> int:
    return UPLOAD_LIMIT + MULTIPART_MARGIN if _is_upload(scope) else BODY_LIMIT


def _too_large(scope: Scope) -> ApiError:
    limit = UPLOAD_LIMIT if _is_upload(scope) else BODY_LIMIT
    message = f"The request is too large: at most {limit // 2**20} MB."
    return ApiError(413, message, param="file" if _is_upload(scope) else None, code="request_too_large")


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
