"""Ask a model about single reviews as they come, for an application: nothing is cached and nothing is written to disk.

`online` is for files of reviews: it caches, caps the spending and stops at a fault that concerns all. Here each review
is on its own. The connections of an event loop are opened once and closed when the loop ends.
"""

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any
from weakref import WeakKeyDictionary

import openai

from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Message
from reviewtune.errors import ProviderError
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.client import connect
from reviewtune.providers.completion import Answer, Request
from reviewtune.providers.rate_limit import Pace
from reviewtune.providers.responses.completion_body import read_completion
from reviewtune.providers.responses.json_text import ErrorBodyError, UnreadableError
from reviewtune.providers.responses.provider_errors import one_line
from reviewtune.providers.responses.rejections import refused, refused_by
from reviewtune.providers.retry_policy import is_passing, pause
from reviewtune.providers.transport import Completions, completions

RETRIES = 2  # somebody waits, and another model may answer


class LiveModel:
    """Asks one model; may be shared by threads and event loops.

    Args:
        policy: how the provider is called: its address, limits per minute, time-out. Its budget is one of evaluations.
        request: the model and its settings.
        seconds: how long an answer may take, retries included; None: provider.timeout.
        progress: receives a message when the provider cannot be reached.
    """

    def __init__(
        self, policy: CallPolicy, request: Request, *, seconds: float | None = None, progress: Progress = SILENT
    ) -> None:
        self._policy, self._request, self._progress = policy, request, progress
        self._seconds = seconds or policy.provider.timeout
        self._opening, self._connecting = threading.Lock(), threading.Lock()
        self._client: openai.OpenAI | None = None
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = WeakKeyDictionary()

    def open(self, instead_of: openai.OpenAI | None = None) -> openai.OpenAI:
        """A client with the address and the key, made at the first call; starts the local provider's server.

        Later calls keep a server that reviewtune started from shutting down, and start it again if it has ended.

        Args:
            instead_of: a client whose server has ended; it is replaced, unless another thread did so before.

        Raises:
            ProviderError: no key, or the local server does not start or does not offer the model.
        """
        held = self._client
        if instead_of is None and held is not None and self._has_ended(held):
            instead_of = held
        if held is not None and held is not instead_of:
            return held
        with self._opening:
            if self._client is None or self._client is instead_of:
                with connect(self._policy.provider, progress=self._progress) as client:
                    self._client = client  # only its address and key are used, never its connections
            return self._client

    async def ask(self, chat: list[Message]) -> Answer:
        """The model's answer, or one that says why the provider does not take this review.

        Raises:
            ProviderError: no answer in time, or the provider refused the request, or it cannot be reached.
        """
        provider = self._policy.provider
        with one_line(provider):
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._ask(self._policy.body(self._request, chat))
            except TimeoutError as error:
                raise ProviderError(f"provider {provider.kind}: no answer within {self._seconds:g} s") from error

    async def _ask(self, body: dict[str, Any]) -> Answer:
        for attempt in range(RETRIES + 1):
            client = self._client
            if client is None:
                client = await asyncio.to_thread(self.open)
            try:
                return await self._try_once(self._connection(client), body)
            except (openai.APIError, UnreadableError) as error:
                if attempt == RETRIES or isinstance(error, openai.APITimeoutError) or not is_passing(error):
                    raise
                if isinstance(error, openai.APIConnectionError) and self._ends_when_idle:
                    await asyncio.to_thread(self.open, client)
                else:
                    await asyncio.sleep(pause(error, attempt))
        raise AssertionError("the last attempt is never followed by another")

    async def _try_once(self, connection: "_Connection", body: dict[str, Any]) -> Answer:
        policy = self._policy
        tokens = policy.tokens_of(body["messages"]) if policy.tokens_per_minute else 0
        await connection.pace.turn(tokens + self._request.max_tokens)
        asking = await connection.opened()
        try:
            return read_completion(await asking.ask(body))
        except openai.APIStatusError as error:
            if (answer := refused(error)) is None:
                raise
            return answer
        except ErrorBodyError as error:
            if (answer := refused_by(error)) is None:
                raise
            return answer

    @property
    def _ends_when_idle(self) -> bool:
        """Whether reviewtune started the server, which ends when nobody asks it."""
        return self._policy.provider.kind == "local" and self._policy.provider.base_url is None

    def _has_ended(self, client: openai.OpenAI) -> bool:
        if not self._ends_when_idle:
            return False
        from reviewtune.providers.local.account_server import has_ended  # needs packages that the light client lacks

        return has_ended(str(client.base_url))

    def _connection(self, client: openai.OpenAI) -> "_Connection":
        loop = asyncio.get_running_loop()
        with self._connecting:  # other threads have their own loops
            held = self._connections.get(loop)
            if held is None or held.client is not client:
                for ended in [other for other in list(self._connections) if other.is_closed()]:
                    self._connections.pop(ended, None)
                held = self._connections[loop] = _Connection(client, self._policy)
            return held


class _Connection:
    """The connections of one event loop, and its turns by the limits per minute.

    Nobody closes them. `completions` is an asynchronous generator: the loop itself ends it, when this object is no
    longer used or at the latest when the loop ends (`loop.shutdown_asyncgens`).
    """

    def __init__(self, client: openai.OpenAI, policy: CallPolicy) -> None:
        self.client = client
        self.pace = Pace(policy.requests_per_minute, policy.tokens_per_minute)
        self._provider = policy.provider
        self._context: AbstractAsyncContextManager[Completions] | None = None
        self._completions: Completions | None = None

    async def opened(self) -> Completions:
        if self._completions is not None:
            return self._completions
        context = completions(self.client, self._provider)
        opened = await context.__aenter__()
        if self._completions is None:  # no other task was faster
            self._context, self._completions = context, opened
        return self._completions
