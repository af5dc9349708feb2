"""Many chat completions at once, by the openai client's own `post`, over its aiohttp transport.

The client builds address and headers, checks the status and raises its own error classes. Only its retries are off:
`online` decides them, since each one counts against the budget. Its typed call would walk through the types of every
parameter, which takes 0.6 of 1.5 ms of CPU time per request. The raw response spares a model of the whole answer:
`responses.completion_body` reads the few fields that are used.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from reviewtune.core.config.provider import ProviderConfig
from reviewtune.providers.client import asynchronous, http_options
from reviewtune.providers.responses.http_client import CompletionsClient


class Completions:
    """One model of one provider: the address may name the model."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def ask(self, body: dict[str, Any]) -> bytes:
        """POST a chat completion once, without retries.

        Args:
            body: of the request, as `completion.Request.body` writes it.

        Returns:
            The body of the answer, unread.

        Raises:
            openai.APITimeoutError: no answer within the provider's time-out.
            openai.APIConnectionError: no connection, or one that was lost.
            openai.APIStatusError: the provider refused the request; its subclass for the HTTP status.
            UnreadableError: the answer is too large, or it does not end.
        """
        try:
            response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        except openai.APITimeoutError as error:
            if any(isinstance(cause, TimeoutError) for cause in causes(error)):
                raise
            raise openai.APIConnectionError(request=error.request) from error  # the transport calls both a time-out
        content: bytes = response.content
        return content


@asynccontextmanager
async def completions(client: openai.OpenAI, provider: ProviderConfig) -> AsyncIterator[Completions]:
    """Open a client for many requests at once."""
    http = CompletionsClient(**http_options(provider, str(client.base_url)))
    async with asynchronous(client, provider, http) as asking:
        yield Completions(asking)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
