"""A finished completion as server-sent events.

The engine answers whole; a stream therefore starts when the answer is there, and only its form is incremental.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import Choice


def stream_lines(whole: ChatCompletion, with_usage: bool) -> Iterator[str]:
    head: dict[str, Any] = {
        "id": whole.id,
        "object": "chat.completion.chunk",
        "created": whole.created,
        "model": whole.model,
        "service_tier": whole.service_tier,
        "system_fingerprint": whole.system_fingerprint,
    }
    if with_usage:
        head["usage"] = None
    for choice in whole.choices:
        for part in _choice_parts(choice):
            yield _event(head | {"choices": [part]})
    if with_usage and whole.usage is not None:
        yield _event(head | {"choices": [], "usage": whole.usage.model_dump(mode="json")})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _choice_parts(choice: Choice) -> Iterator[dict[str, Any]]:
    """The role, the text piece by piece, the reason of its end."""

    def part(delta: dict[str, Any], logprobs: object = None, end: str | None = None) -> dict[str, Any]:
        return {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": end}

    yield part({"role": "assistant", "content": "", "refusal": None})
    text = choice.message.content or ""
    if choice.logprobs is None:
        for piece in re.findall(r"\s*\S+|\s+", text):
            yield part({"content": piece})
    else:
        for piece, token in _token_pieces(text, choice.logprobs.content or []):
            yield part({"content": piece}, {"content": [token.model_dump(mode="json")], "refusal": None})
    yield part({}, end=choice.finish_reason)


def _token_pieces(
    text: str, tokens: list[ChatCompletionTokenLogprob]
) -> Iterator[tuple[str, ChatCompletionTokenLogprob]]:
    """The text cut where its tokens end; a character spread over tokens comes with the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    start = 0
    for number, token in enumerate(tokens, 1):
        end = start + len(decoder.decode(bytes(token.bytes or [])))
        yield text[start : None if number == len(tokens) else end], token
        start = end
