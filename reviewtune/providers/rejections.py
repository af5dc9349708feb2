"""Reviews that a provider does not take: too long for the model, or against its rules.

Nothing is paid for one, no repetition mends it, and it says nothing about the other reviews: it is an unusable answer
with the provider's reason, not the end of a run.
"""

from collections.abc import Mapping
from typing import Any

import openai

from reviewtune.providers.completion import Answer
from reviewtune.providers.pricing import Usage

CODES = {
    "context_length_exceeded",  # OpenAI, and the local provider
    "string_above_max_length",
    "exceed_context_size_error",  # llama.cpp
    "content_filter",  # Azure
    "content_policy_violation",
    "invalid_prompt",
}
IN_WORDS = "maximum context length"  # vLLM has no code for it
STATUSES = (400, 422)
TOO_LARGE = 413  # whoever says so: a proxy on the way has no code


def refused(error: openai.APIStatusError) -> Answer | None:
    """The answer to a review that the provider does not take; None when the error is about anything else."""
    body = error.body if isinstance(error.body, dict) else {}
    return _answer(error.status_code, {"message": error.message, **body})


def refused_line(line: Mapping[str, Any]) -> Answer | None:
    """As `refused`, of a line of a batch's error file."""
    response = line.get("response") or {}
    return _answer(int(response.get("status_code") or 0), (response.get("body") or {}).get("error") or {})


def _answer(status: int, fault: Mapping[str, Any]) -> Answer | None:
    message = " ".join(str(fault.get("message", "")).split())
    named = not CODES.isdisjoint({str(fault.get("code")), str(fault.get("type"))}) or IN_WORDS in message
    if status != TOO_LARGE and not (named and status in STATUSES):
        return None
    return Answer("", "refused", Usage(), refused=f"HTTP {status}: {message or 'too large'}")
