"""How many chats may wait for the model at a time, and what the rate-limit headers say about it.

A hosted API limits what comes in a minute; here the limit is the length of the queue, and a reset is the time until
the queue is empty, reckoned from the pace of the last answers. All of this runs on the event loop's one thread.
"""

import math
import time

from reviewtune.local_server.engine.types import GenerationRequest
from reviewtune.local_server.protocol.api_errors import ApiError

TOKENS_EACH = 8192  # that a waiting chat may have on average, prompt and answer
CHARACTERS = 4  # a token, roughly: the tokenizer belongs to the model, which may not be loaded
ANSWER = 1024  # tokens of an answer without a limit
MEMORY = 0.9  # of the pace: about the last ten answers count
LONGEST_WAIT = 60  # seconds that a client is told to wait


def tokens_of(request: GenerationRequest) -> int:
    """An estimate from above, as OpenAI's limits are reckoned: the prompt, and the answers at their longest."""
    characters = sum(len(message.content) for message in request.messages)
    return characters // CHARACTERS + request.n * (request.max_tokens or ANSWER)


class Admission:
    def __init__(self, most: int) -> None:
        self._most, self._most_tokens = most, most * TOKENS_EACH
        self._waiting = self._tokens = 0
        self._pace = 0.1  # seconds an answer
        self._last = time.monotonic()  # when an answer came, or work began

    def enter(self, tokens: int) -> None:
        """Take a place; an empty queue admits a request of any size. Raises ApiError when there is no room."""
        if self._waiting >= self._most:
            raise self._refusal("requests", f"{self._most} chats wait for an answer already")
        if self._waiting and self._tokens + tokens > self._most_tokens:
            raise self._refusal("tokens", f"the chats that wait hold about {self._tokens} tokens already")
        if not self._waiting:
            self._last = time.monotonic()
        self._waiting += 1
        self._tokens += tokens

    def leave(self, tokens: int) -> None:
        self._waiting -= 1
        self._tokens -= tokens
        now = time.monotonic()
        self._pace = MEMORY * self._pace + (1 - MEMORY) * (now - self._last)
        self._last = now

    @property
    def headers(self) -> dict[str, str]:
        reset = _duration(self._waiting * self._pace)
        return {
            "x-ratelimit-limit-requests": str(self._most),
            "x-ratelimit-limit-tokens": str(self._most_tokens),
            "x-ratelimit-remaining-requests": str(self._most - self._waiting),
            "x-ratelimit-remaining-tokens": str(max(0, self._most_tokens - self._tokens)),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }

    def _refusal(self, limit: str, reason: str) -> ApiError:
        wait = min(LONGEST_WAIT, max(1, math.ceil(self._waiting * self._pace / 2)))  # until the queue is half as long
        message = f"Rate limit reached for {limit}: {reason}. Please try again in {wait}s."
        refusal = ApiError(429, message, code="rate_limit_exceeded", type_=limit)
        refusal.headers = {"Retry-After": str(wait), **self.headers}
        return refusal


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 17ms, 1s, 6m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
