"""Reviews that a provider rejects: too long for the model, or against its rules.

A rejected review costs nothing, a retry does not help, and the other reviews are not affected. It becomes an unusable
answer with the provider's reason and does not end the run.
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
IN_WORDS = "maximum context length"  # vLLM sends no code for this
STATUSES = (400, 422)
TOO_LARGE = 413  # always a rejection, because a proxy between client and provider sends no code


def refused(error: openai.APIStatusError) -> Answer | None:
    """The unusable answer to a rejected review; None if the error is about anything else."""
    body = error.body if isinstance(error.body, dict) else {}
    return _answer(error.status_code, {"message": error.message, **body})


def refused_line(line: Mapping[str, Any]) -> Answer | None:
    """Like `refused`, for a line of a batch's error file."""
    response = line.get("response") or {}
    return _answer(int(response.get("status_code") or 0), (response.get("body") or {}).get("error") or {})


def _answer(status: int, fault: Mapping[str, Any]) -> Answer | None:
    message = " ".join(str(fault.get("message", "")).split())
    named = not CODES.isdisjoint({str(fault.get("code")), str(fault.get("type"))}) or IN_WORDS in message
    if status != TOO_LARGE and not (named and status in STATUSES):
        return None
    return Answer(text="", finish_reason="refused", usage=Usage(), refused=f"HTTP {status}: {message or 'too large'}")
