"""Which failed requests are retried, and after how long.

The retries of the openai client are not used, because they happen inside one call. Here each try waits for its turn
(`rate_limit.Pace`) and is counted in the budget first, as it may be paid again, and a pause that the provider asks for
(`Retry-After`, `retry-after-ms`) holds all workers, not only the one whose request failed. tenacity is not used,
because it would replace only the short loop in `online`: the rules below would remain, as its callbacks.
"""

import email.utils
import random
import time

import openai
from pydantic import ValidationError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; doubled from try to try
PATIENCE = 120.0  # a request whose provider asks for a longer pause fails; the next run continues
PASSING = (408, 409, 429)  # and every 5xx
NO_CREDIT = "insufficient_quota"  # a 429 that waiting does not resolve


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later: timeouts, cut connections, garbage, busy or broken servers."""
    if isinstance(error, openai.APIConnectionError | ValidationError):
        return True
    if not isinstance(error, openai.APIStatusError) or error.code == NO_CREDIT:
        return False
    if (answer := error.response.headers.get("x-should-retry")) in ("true", "false"):
        return bool(answer == "true")
    if (asked := asked_pause(error)) is not None and asked > PATIENCE:
        return False
    return error.status_code in PASSING or error.status_code >= 500


def pause(error: Exception, attempt: int) -> float:
    """Seconds until the next try: what the provider asks for, else longer and longer, never in step with others."""
    asked = asked_pause(error)
    if asked is not None:
        return asked
    return min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE) * random.uniform(0.75, 1.0)


def asked_pause(error: Exception) -> float | None:
    """Seconds by the header Retry-After (a number or a date) or retry-after-ms; None when there is neither."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / divisor)
        except (KeyError, ValueError):
            continue
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())
