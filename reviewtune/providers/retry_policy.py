"""Which failed requests are retried, and after how long.

The retries of the openai client are not used, because they happen inside one call. Here each try waits for its turn
(`rate_limit.Pace`) and is counted in the budget first, as it may be paid again, and a pause that the provider asks for
(`Retry-After`, `retry-after-ms`) holds all workers, not only the one whose request failed. tenacity is not used,
because it would replace only the short loop in `online`: the rules below would remain, as its callbacks.
"""

import calendar
import email.utils
import random
import re
import time
from collections.abc import Mapping

import openai

from reviewtune.providers.responses.json_text import ErrorBodyError, UnreadableError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; doubled from try to try
PATIENCE = 120.0  # a request whose provider asks for a longer pause fails; the next run continues
UNREACHABLE_RETRIES = 4  # while nothing has answered yet, so that a wrong base_url is reported soon
GARBLED_RETRIES, UNREADABLE_RETRIES = 4, 1  # such an answer may have been paid, and most servers repeat an odd one
SERVER_FAULT = 500  # and above
PASSING = (408, 409, 429)  # and every fault of the server
NO_CREDIT = "insufficient_quota"  # a 429 that waiting does not resolve
SECONDS = re.compile(r"\d+(\.\d+)?")


def most_retries(error: Exception, *, allowed: int, reached: bool) -> int:
    """How often a request is repeated after this error.

    Args:
        error: the latest error.
        allowed: provider.max_retries.
        reached: whether the provider answered any request of this run.
    """
    if is_refusal(error):
        return allowed
    if isinstance(error, UnreadableError):
        return min(allowed, GARBLED_RETRIES if error.garbled and reached else UNREADABLE_RETRIES)
    if isinstance(error, openai.APIConnectionError) and not reached:
        return min(allowed, UNREACHABLE_RETRIES)
    return allowed


def is_refusal(error: Exception) -> bool:
    """Whether the answer is an error object whose own status says that it passes, as gateways send with status 200."""
    return isinstance(error, ErrorBodyError) and may_pass(error.status)


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later: timeouts, cut connections, garbage, busy or broken servers."""
    if isinstance(error, openai.APIConnectionError | UnreadableError):
        return True
    if not isinstance(error, openai.APIStatusError) or NO_CREDIT in (error.code, error.type):
        return False
    if (asked := asked_pause(error)) is not None and asked > PATIENCE:
        return False
    if (answer := error.response.headers.get("x-should-retry")) in ("true", "false"):
        return bool(answer == "true")
    return may_pass(error.status_code)


def may_pass(status: int) -> bool:
    """Whether a request that was refused with this HTTP status may succeed later."""
    return status in PASSING or status >= SERVER_FAULT


def is_refused(error: BaseException) -> bool:
    """Whether the provider certainly did nothing; after a server's fault, or without an answer, nobody knows."""
    return isinstance(error, openai.APIStatusError) and error.status_code < SERVER_FAULT


def pause(error: Exception, attempt: int) -> float:
    """Seconds until the next try: what the provider asks for, else longer and longer, never in step with others."""
    asked = asked_pause(error)
    if asked is not None:
        return asked
    return min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE) * random.uniform(0.75, 1.0)


def asked_pause(error: Exception) -> float | None:
    """Seconds by the header Retry-After or retry-after-ms of a refused request; None if there is neither."""
    return asked_seconds(error.response.headers) if isinstance(error, openai.APIStatusError) else None


def asked_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds by the header retry-after-ms, or Retry-After in each form of RFC 9110; None if there is neither.

    Retry-After is a number of seconds or a date in one of three forms, which is always in GMT.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if SECONDS.fullmatch(value):
            return float(value) / divisor
    moment = _moment(headers.get("retry-after", ""))
    return None if moment is None else max(0.0, moment - time.time())


def is_date(value: str) -> bool:
    """Whether the value of Retry-After is a date."""
    return _moment(value) is not None


def _moment(value: str) -> float | None:
    """The Unix seconds of a date; None if it is not a date. Without a time zone, it is in GMT."""
    try:
        date = email.utils.parsedate_tz(value)
        return None if date is None else calendar.timegm(date[:9]) - (date[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
