"""How many chats may wait for the model at a time, and the rate-limit headers.

A hosted API limits requests per minute. Here the limit is the length of the queue, and a reset is the estimated time
until the queue is empty, computed from the recent time per answer. Everything runs on the event loop's thread.
"""

import math
import time

from reviewtune.local_server.engine.types import GenerationRequest
from reviewtune.local_server.protocol.api_errors import ApiError

TOKENS_EACH = 8192  # allowed on average for a waiting chat, prompt and answer
CHARACTERS_A_TOKEN = 4  # roughly; the exact number needs the model's tokenizer, which may not be loaded
ANSWER_TOKENS = 1024  # of an answer without a limit
SMOOTHING = 0.9  # of the time per answer: about the last ten answers count
LONGEST_WAIT = 60  # seconds that a client is asked to wait


def tokens_of(request: GenerationRequest) -> int:
    """Estimate a request's tokens from above, as OpenAI's limits do: the prompt, and answers of maximal length."""
    characters = sum(len(message.content) for message in request.messages)
    if request.prompt is not None:
        characters += len(request.prompt) * (1 if isinstance(request.prompt, str) else CHARACTERS_A_TOKEN)
    characters += sum(len(function.parameters) for function in request.tools.functions) if request.tools else 0
    answer = ANSWER_TOKENS if request.max_tokens is None else request.max_tokens
    return characters // CHARACTERS_A_TOKEN + request.n * answer


class Admission:
    """Counts the chats that wait for an answer and refuses those beyond the limit."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting, self._max_tokens = max_waiting, max_waiting * TOKENS_EACH
        self._waiting = self._tokens = 0
        self._seconds_an_answer = 0.1
        self._last = time.monotonic()  # when the last answer ended, or work began

    def enter(self, tokens: int) -> None:
        """Take a place in the queue; an empty queue admits a request of any size.

        Raises:
            ApiError: 429, the queue is full.
        """
        if self._waiting >= self._max_waiting:
            raise self._error("requests", f"{self._max_waiting} chats wait for an answer already")
        if self._waiting and self._tokens + tokens > self._max_tokens:
            raise self._error("tokens", f"the chats that wait hold about {self._tokens} tokens already")
        if not self._waiting:
            self._last = time.monotonic()
        self._waiting += 1
        self._tokens += tokens

    def leave(self, tokens: int) -> None:
        """Give the place back and update the time per answer."""
        self._waiting -= 1
        self._tokens -= tokens
        now = time.monotonic()
        self._seconds_an_answer = SMOOTHING * self._seconds_an_answer + (1 - SMOOTHING) * (now - self._last)
        self._last = now

    @property
    def headers(self) -> dict[str, str]:
        """OpenAI's rate-limit headers."""
        reset = _duration(self._waiting * self._seconds_an_answer)
        return {
            "x-ratelimit-limit-requests": str(self._max_waiting),
            "x-ratelimit-limit-tokens": str(self._max_tokens),
            "x-ratelimit-remaining-requests": str(self._max_waiting - self._waiting),
            "x-ratelimit-remaining-tokens": str(max(0, self._max_tokens - self._tokens)),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }

    def _error(self, limit: str, reason: str) -> ApiError:
        half_the_queue = math.ceil(self._waiting * self._seconds_an_answer / 2)
        seconds = min(LONGEST_WAIT, max(1, half_the_queue))
        message = f"Rate limit reached for {limit}: {reason}. Please try again in {seconds}s."
        error = ApiError(429, message, code="rate_limit_exceeded", type_=limit)
        error.headers = {"Retry-After": str(seconds), **self.headers}
        return error


def _duration(seconds: float) -> str:
    """In OpenAI's format: 17ms, 1s, 6m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
