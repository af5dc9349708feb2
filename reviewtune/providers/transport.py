"""Many chat completions, each sent just as the openai client sent the first.

The typed call checks every body against its types and builds a model of every answer, and even the client's general
`post` puts address and headers together anew each time: twice the CPU time of sending the request. They are the same
for all, so those of the first request serve for the others.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from reviewtune.core.config import ProviderConfig
from reviewtune.providers.client import asynchronous, certificates

OWN = ("content-length", "idempotency-key")  # headers that belong to one request


class Completions:
    """One model of one provider: the address may name the model."""

    def __init__(self, client: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
        self._client, self._http = client, http
        self._first: httpx2.Request | None = None

    async def ask(self, body: dict[str, Any]) -> bytes:
        """POST a chat completion; the body of the answer as it came.

        Raises:
            openai.APIError: those of the openai client.
        """
        try:
            if self._first is not None:
                return (await self._send(_like(self._first, body))).content
            response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        except openai.APITimeoutError as error:
            if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
                raise
            raise openai.APIConnectionError(request=error.request) from error  # the transport calls both a time-out
        self._first = response.request
        return response.content

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._http.send(request)
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except httpx2.RequestError as error:
            raise openai.APIConnectionError(request=request) from error
        if not response.is_success:
            raise self._client._make_status_error_from_response(response)  # no public name makes the very same error
        return response


@asynccontextmanager
async def completions(client: openai.OpenAI, provider: ProviderConfig) -> AsyncIterator[Completions]:
    """aiohttp carries the requests: it spends half the CPU time of the openai client's own transport on each."""
    http = openai.DefaultAioHttpClient(verify=certificates())
    async with asynchronous(client, provider, http) as asking:
        yield Completions(asking, http)


def _like(first: httpx2.Request, body: dict[str, Any]) -> httpx2.Request:
    headers = [(name, value) for name, value in first.headers.raw if name.decode().lower() not in OWN]
    content = json.dumps(body, separators=(",", ":")).encode()
    return httpx2.Request(first.method, first.url, headers=headers, content=content, extensions=first.extensions)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
