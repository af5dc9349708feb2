"""What the scripts share. They run in environments without reviewtune: the standard library only.

The server's address and key are in OPENAI_BASE_URL and OPENAI_API_KEY, as users set them; MODEL is the model's name.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

MODEL = os.environ["MODEL"]
BASE_URL = os.environ["OPENAI_BASE_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]
TASK = json.loads(Path(__file__).with_name("reviews.json").read_text(encoding="utf-8"))  # also of the .mjs
Issue = Literal["billing", "delivery", "quality"]
LABELS: tuple[Issue, ...] = ("billing", "delivery", "quality")
INSTRUCTIONS: str = TASK["instructions"]
REVIEWS: tuple[str, ...] = tuple(TASK["reviews"])
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": list(LABELS)}},
    "required": ["label"],
    "additionalProperties": False,
}
Way = Callable[[], Iterable[str | None]]


def main(ways: Mapping[str, Way]) -> None:
    """Classify all reviews in each way; print one JSON object with the labels, or the error, of each."""
    results: dict[str, object] = {}
    for name, way in ways.items():
        start = time.monotonic()
        try:
            results[name] = list(way())
        except Exception:
            results[name] = traceback.format_exc()[-3000:]
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    print(f"\n{json.dumps(results)}", flush=True)


def messages(review: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": review}]


def text(answer: object) -> str:
    """An answer in free text, which a model with random weights may write as it likes."""
    if not isinstance(answer, str):
        raise TypeError(f"expected text, got {answer!r}")
    return "text"
