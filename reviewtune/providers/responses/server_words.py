"""What a server says about an error, whatever the shape of its error object."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice

LONGEST = 500  # characters
DEEPEST = 8  # levels of an error object
# In this order: some objects have several of them, and `error` is a short title next to a `message` or `detail`.
NAMES = ["message", "msg", "detail", "details", "error_description", "error_message", "error", "errors", "reason"]
NAMES += ["description", "title", "body"]
PLACES = ("loc", "field")  # what the text is about; OpenAI's messages name their `param` themselves


def words_of(body: object) -> str:
    """The server's own words, on one line; empty if it sent none.

    Args:
        body: the body of the response as JSON value, or as text if it is not JSON.
    """
    text = "; ".join(dict.fromkeys(islice(_texts(body, DEEPEST), 5)))
    if not text and body:
        text = json.dumps(body, ensure_ascii=False, default=str)
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= LONGEST else words[:LONGEST] + " ..."


def _texts(value: object, deepest: int) -> Iterator[str]:
    """Each message in the body, the outermost first."""
    if deepest == 0:
        return
    if isinstance(value, str):
        yield from _of_text(value)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, deepest - 1)
    elif isinstance(value, dict):
        yield from _of_object(value, deepest)


def _of_object(value: Mapping[str, object], deepest: int) -> Iterator[str]:
    for name in NAMES:
        texts = list(islice(_texts(value.get(name), deepest - 1), 5))
        if texts:
            place = _place(value)
            yield from (text if not place or place in text else f"{place}: {text}" for text in texts)
            return


def _place(value: Mapping[str, object]) -> str:
    """The field that the message is about, as FastAPI names it."""
    place = next((value[name] for name in PLACES if value.get(name)), "")
    parts = place if isinstance(place, list) else [place]
    return ".".join(str(part) for part in parts if isinstance(part, str | int) and part != "body")


def _of_text(text: str) -> Iterator[str]:
    """The text itself; of an HTML page its title, else what it shows."""
    if re.match(r"\s*<[!?a-z]", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = html.unescape(title[1] if title else re.sub(r"<[^>]*>", " ", text[:10_000]))
    if text.strip():
        yield text.strip()
