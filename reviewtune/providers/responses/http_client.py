"""The HTTP clients below the openai clients: bodies end, JSON objects are sound, and silence is explained.

A time-out of the HTTP library limits the pause between two parts of a body, not the whole: a body that never ends would
never be noticed. What is wrong with a body is decided here, before the openai client reads it.
"""

import json
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.providers.responses.account_objects import route_of, sound_body
from reviewtune.providers.responses.json_text import UnreadableError, read_json
from reviewtune.providers.retry_policy import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    UNREACHABLE_RETRIES,
    asked_seconds,
    is_date,
    may_pass,
)

MOST_BYTES = 32 * 2**20  # of a body; 4,096 tokens with 20 alternatives each have 8 MiB
SLOWEST = 1000  # bytes per second; on average, a body must be at least as fast once its time-out has passed
GARBLED_RETRIES = 2  # of a GET request whose answer cannot be read
BROKEN_OFF = (httpx2.DecodingError, httpx2.RemoteProtocolError, httpx2.ReadError)  # after the head of the response
TRANSFER = ("content-encoding", "content-length", "transfer-encoding")  # headers of a body that has been read


if TYPE_CHECKING:
    ManyAtOnce = httpx2.AsyncClient
elif find_spec("aiohttp") is not None:
    ManyAtOnce = openai.DefaultAioHttpClient
else:  # the light client: equal answers, for twice the CPU time
    ManyAtOnce = openai.DefaultAsyncHttpxClient


class BodyLimit:
    """Refuses a body that is too large, or so slow that it may never end.

    Args:
        seconds: how long any body may take.
        most: bytes.
    """

    def __init__(self, seconds: float | None, most: int = MOST_BYTES) -> None:
        self._seconds, self._most = seconds, most
        self._size, self._began = 0, time.monotonic()

    def add(self, part: bytes) -> None:
        """Count a part of the body.

        Raises:
            UnreadableError: this part was too much, or too late.
        """
        self._size += len(part)
        if self._size > self._most:
            raise UnreadableError(f"an answer of more than {self._most / 2**20:.0f} MiB")
        elapsed = time.monotonic() - self._began
        if self._seconds is not None and elapsed > self._seconds + self._size / SLOWEST:
            raise UnreadableError(f"an answer that did not end within {elapsed:.0f} s")


class AccountClient(openai.DefaultHttpxClient):
    """For single requests about files, jobs, batches and models.

    Args:
        who: names the provider in messages.
        retries: how often the openai client repeats a request that got no answer.
        progress: receives a message when the provider cannot be reached and for how long it is tried.
        **options: of httpx2.Client.
    """

    def __init__(self, *, who: str, retries: int, progress: Progress = SILENT, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self._who, self._retries, self._progress = who, retries, progress
        self._was_reached = False

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        """Send a request and read its answer, unless a successful one is to be streamed.

        Raises:
            UnreadableError: the answer is too large, does not end, or is not the object that was asked for.
            openai.APIConnectionError: the provider could not be reached at all.
        """
        for attempt in range(GARBLED_RETRIES + 1):
            response = self._sent(request, **options)
            if stream and response.is_success:
                return response
            try:
                return _sound(_read(response))
            except UnreadableError as error:
                if not error.garbled or request.method != "GET" or attempt == GARBLED_RETRIES:
                    raise
                time.sleep(FIRST_PAUSE * 2**attempt)
        raise AssertionError("the last attempt is never followed by another")

    def _sent(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401
        try:
            response = super().send(request, stream=True, **options)
        except (httpx2.ConnectError, httpx2.TimeoutException) as error:
            self._explain(request, error)
            raise
        self._was_reached = True
        self._announce(request, response)
        return response

    def _announce(self, request: httpx2.Request, response: httpx2.Response) -> None:
        """Say at the first refusal that the openai client will repeat the request."""
        if may_pass(response.status_code) and _attempt(request) == 0 and self._retries and request.method == "GET":
            self._progress.message(
                f"{self._who}: {request.url.copy_with(query=None)} answers HTTP {response.status_code}; trying up to "
                f"{self._retries} more times"
            )

    def _explain(self, request: httpx2.Request, error: Exception) -> None:
        """Say at the first failure what is tried and for how long; end after a few unless there was an answer before.

        Raises:
            openai.APIConnectionError: there were enough attempts.
        """
        attempt = _attempt(request)
        most = self._retries if self._was_reached else min(self._retries, UNREACHABLE_RETRIES)
        if attempt == 0 and most and request.method == "GET":  # those that create something are not repeated
            self._progress.message(unreachable(self._who, request, error, retries=most))
        if attempt >= most:  # the openai client does not retry after an error of its own
            kind = openai.APITimeoutError if isinstance(error, httpx2.TimeoutException) else openai.APIConnectionError
            raise kind(request=request) from error


class CompletionsClient(ManyAtOnce):
    """For many chat completions at once, over the aiohttp transport if it is installed.

    It spends half the CPU time of the openai client's own transport on a request.
    """

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        """Send a request and read its answer.

        Raises:
            UnreadableError: the answer is too large or does not end.
        """
        response = await super().send(request, stream=True, **options)
        limit, parts = _limit_of(request), []
        try:
            async for part in response.aiter_bytes():
                limit.add(part)
                parts.append(part)
        except BROKEN_OFF as error:
            raise UnreadableError("an answer that broke off", garbled=True) from error
        finally:
            await response.aclose()
        return _with_content(response, b"".join(parts))


def unreachable(who: str, request: httpx2.Request, error: BaseException, *, retries: int) -> str:
    """What is tried now, and for how long, after the first request to a provider got no answer."""
    address = request.url.copy_with(query=None)
    seconds = sum(min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE) for attempt in range(retries))
    if isinstance(error, httpx2.TimeoutException | openai.APITimeoutError):
        limits = request.extensions.get("timeout", {})
        limit = limits.get("connect" if isinstance(error, httpx2.ConnectTimeout) else "read") or 0.0
        seen, seconds = f"did not answer within {limit:g} s", seconds + retries * limit
    else:
        seen = f"cannot be reached ({error or type(error).__name__})"
    return f"{who}: {address} {seen}; trying {retries} more time{'s' * (retries > 1)}, for up to {seconds:.0f} s"


def _read(response: httpx2.Response) -> httpx2.Response:
    limit, parts = _limit_of(response.request), []
    try:
        for part in response.iter_bytes():
            limit.add(part)
            parts.append(part)
    except BROKEN_OFF as error:
        raise UnreadableError("an answer that broke off", garbled=True) from error
    finally:
        response.close()
    return _with_content(response, b"".join(parts))


def _sound(response: httpx2.Response) -> httpx2.Response:
    """The response with sound objects; errors and the contents of files are left as they are."""
    request = response.request
    if not response.is_success or request.method == "DELETE" or route_of(request.url.path) is None:
        return response
    try:
        body = sound_body(
            read_json(response.content),
            method=request.method,
            path=request.url.path,
            after=request.url.params.get("after"),
        )
        content = json.dumps(body).encode()
    except RecursionError as error:
        raise UnreadableError("JSON that is nested too deeply") from error
    return _with_content(response, content)


def _with_content(response: httpx2.Response, content: bytes) -> httpx2.Response:
    headers = httpx2.Headers([(name, value) for name, value in response.headers.items() if name not in TRANSFER])
    if is_date(headers.get("retry-after", "")) and (seconds := asked_seconds(headers)) is not None:
        headers["retry-after"] = f"{seconds:.0f}"  # the openai client reads dates without a zone in the local one
    return httpx2.Response(
        response.status_code, headers=headers, content=content, request=response.request, extensions=response.extensions
    )


def _attempt(request: httpx2.Request) -> int:
    """How often the openai client sent this request before."""
    return int(request.headers.get("x-stainless-retry-count", 0))


def _limit_of(request: httpx2.Request) -> BodyLimit:
    return BodyLimit(request.extensions.get("timeout", {}).get("read"))
