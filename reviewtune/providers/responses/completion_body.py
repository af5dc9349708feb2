"""Read the body of a chat completion as far as it can be read. Servers differ in what they leave out or write as null.

Only a body without any answer is unreadable. Counts that are missing are 0, a missing finish reason is "unknown", and
log-probabilities that cannot be used are as if there were none.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from openai.types.chat import ChatCompletionTokenLogprob
from pydantic import TypeAdapter

from reviewtune.providers.completion import Answer
from reviewtune.providers.pricing import Usage
from reviewtune.providers.responses.json_text import ErrorBodyError, UnreadableError, plain_text, read_json
from reviewtune.providers.responses.server_words import words_of

Object = Mapping[str, Any]
LEAST_LOGPROB = -9999.0  # what OpenAI sends for a probability of 0
MOST_TOKENS = 10**12  # a larger count is not a count of tokens
_LOGPROBS = TypeAdapter(tuple[ChatCompletionTokenLogprob, ...])


def read_completion(content: bytes | Object) -> Answer:
    """The answer in a chat completion, without times.

    Args:
        content: the completion as JSON text or as its object.

    Raises:
        UnreadableError: there is no answer in it; the message says what there is instead.
    """
    body = read_json(content) if isinstance(content, bytes) else content
    if not isinstance(body, dict):
        raise UnreadableError(f"{_kind(body)} instead of a chat completion")
    choice = _first_choice(body)
    message = _object(choice.get("message"))
    text, refusal = _text(message, choice), _parts(message.get("refusal"))
    finish_reason = choice.get("finish_reason")
    answer = Answer(
        text=text,
        finish_reason=plain_text(finish_reason) if isinstance(finish_reason, str) and finish_reason else "unknown",
        usage=_usage(_object(body.get("usage"))),
        logprobs=_logprobs(_object(choice.get("logprobs")).get("content")),
        refused=f"the model refused: {refusal}" if refusal and not text else None,
    )
    if not text and not refusal and not _may_be_empty(message, answer.finish_reason):
        raise UnreadableError(f"an answer without text (finish reason: {answer.finish_reason})")
    return answer


def _may_be_empty(message: Object, finish_reason: str) -> bool:
    """Whether no text is the model's answer: it was cut or filtered, or the model ended at once."""
    return finish_reason in ("length", "content_filter") or (message.get("content") == "" and finish_reason == "stop")


def _first_choice(body: Object) -> Object:
    choices = body.get("choices")
    usable = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    if usable:
        return usable[0]
    if error := body.get("error") or body.get("detail"):
        raise ErrorBodyError(words_of(error) or "no reason was given", status=_status(body, error), error=error)
    raise UnreadableError(f"no chat completion: {words_of(body) or 'an empty object'}")


def _status(body: Object, error: object) -> int:
    """The HTTP status that an error object names, as proxies write that of the server behind them; else 200."""
    named = [_object(error).get(name) for name in ("code", "status", "status_code")] + [body.get("status")]
    statuses = [int(value) for value in named if isinstance(value, int | str) and str(value).isdecimal()]
    return next((status for status in statuses if 400 <= status < 600), 200)


def _text(message: Object, choice: Object) -> str:
    """The answer: a text, parts of one, or an object that the server has read already."""
    content = message.get("content")
    if content is None:
        content = choice.get("text")
    if isinstance(content, dict) and "text" not in content:
        return plain_text(json.dumps(content, ensure_ascii=False))
    return _parts(content)


def _parts(content: object) -> str:
    """The text of a message or of its parts of type text; what a model thinks is not a part of its answer."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return plain_text("".join(text for text in texts if isinstance(text, str)))


def _usage(usage: Object) -> Usage:
    prompt = _count(usage.get("prompt_tokens"))
    cached = _count(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))
    return Usage(prompt=prompt, cached=min(cached, prompt), completion=_count(usage.get("completion_tokens")))


def _count(value: object) -> int:
    """A number of tokens; 0 for what is not one."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= MOST_TOKENS else 0


def _logprobs(items: object) -> tuple[ChatCompletionTokenLogprob, ...] | None:
    """The tokens with their log-probabilities; None if there are none, or if any of them cannot be used."""
    if not isinstance(items, list) or not items:
        return None
    try:
        return _LOGPROBS.validate_python([_token(_object(item)) for item in items])
    except UnreadableError:
        return None  # scores of some tokens alone would be wrong


def _token(item: Object) -> dict[str, Any]:
    return {**_word(item), "top_logprobs": [_word(other) for other in _objects(item.get("top_logprobs"))]}


def _word(item: Object) -> dict[str, Any]:
    token, logprob = item.get("token"), item.get("logprob")
    if type(logprob) is not float or not math.isfinite(logprob):
        logprob = _number(logprob, infinite=True)
    if not isinstance(token, str) or logprob is None:
        raise UnreadableError("a token without a log-probability")
    return {"token": plain_text(token), "logprob": max(logprob, LEAST_LOGPROB), "bytes": _bytes(item.get("bytes"))}


def _bytes(values: object) -> list[int] | None:
    """The values if they are bytes, 0 to 255."""
    if not isinstance(values, list):
        return None
    try:
        return list(bytes(values))
    except (TypeError, ValueError):
        return None


def _number(value: object, *, infinite: bool = False) -> float | None:
    """A number, also one that is written as text; None for anything else. -Infinity only if `infinite`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) or (infinite and number == -math.inf) else None


def _object(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _objects(values: object) -> Iterator[Object]:
    return (value for value in values if isinstance(value, dict)) if isinstance(values, list) else iter(())


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
