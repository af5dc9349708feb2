"""Reviews that a provider rejects: too long for the model, or against its rules.

A rejected review costs nothing, a retry does not help, and the other reviews are not affected. It becomes an unusable
answer with the provider's reason and does not end the run.
"""

import re
from collections.abc import Mapping
from typing import Any

import openai

from reviewtune.providers.completion import Answer
from reviewtune.providers.pricing import Usage
from reviewtune.providers.responses.json_text import ErrorBodyError
from reviewtune.providers.responses.server_words import words_of

CODES = {
    "context_length_exceeded",  # OpenAI, and the local provider
    "string_above_max_length",
    "exceed_context_size_error",  # llama.cpp
    "content_filter",  # Azure
    "content_policy_violation",
    "invalid_prompt",
}
IN_WORDS = re.compile(  # for servers that send no code
    r"context (length|size|window)"  # vLLM, llama.cpp, Mistral, DeepSeek
    r"|prompt is too long"  # Anthropic
    r"|input token count"  # Google
    r"|inputs. (must have less|tokens)"  # Text Generation Inference
    r"|reduce the length of (the|your) (messages|prompt)",  # Groq
    re.IGNORECASE,
)
STATUSES = (400, 422)
TOO_LARGE = 413  # always a rejection, because a proxy between client and provider sends no code


def refused(error: openai.APIStatusError) -> Answer | None:
    """The unusable answer to a rejected review; None if the error is about anything else."""
    return _answer(error.status_code, error.body)


def refused_by(error: ErrorBodyError) -> Answer | None:
    """Like `refused`, for an error object that came with status 200."""
    return _answer(error.status if error.status != 200 else STATUSES[0], error.error)


def refused_line(line: Mapping[str, Any]) -> Answer | None:
    """Like `refused`, for a line of a batch's error file."""
    status, fault = fault_of(line)
    return _answer(status, fault)


def fault_of(line: Mapping[str, Any]) -> tuple[int, object]:
    """The HTTP status and the error object of a line of a batch's files; 0 and None if there are none."""
    response = line.get("response")
    if not isinstance(response, dict):
        return 0, line.get("error")
    status, body = response.get("status_code"), response.get("body")
    fault = body.get("error", body) if isinstance(body, dict) else body
    return status if isinstance(status, int) else 0, fault


def _answer(status: int, fault: object) -> Answer | None:
    words = words_of(fault)
    named = isinstance(fault, dict) and not CODES.isdisjoint({str(fault.get("code")), str(fault.get("type"))})
    if status != TOO_LARGE and not ((named or IN_WORDS.search(words)) and status in STATUSES):
        return None
    return Answer(text="", finish_reason="refused", usage=Usage(), refused=f"HTTP {status}: {words or 'too large'}")
