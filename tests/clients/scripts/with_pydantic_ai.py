"""pydantic-ai: `openai:`, which speaks Responses, and `openai-chat:`; the answer is a Literal."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from shared import INSTRUCTIONS, MODEL, REVIEWS, Issue, main, text


class Answer(BaseModel):
    label: Issue


def run(kind: str, output_type: Any, **settings: Any) -> Iterator[Any]:
    agent = Agent(f"{kind}:{MODEL}", instructions=INSTRUCTIONS, output_type=output_type, **settings)
    for review in REVIEWS:
        yield agent.run_sync(review).output


def literal(kind: str) -> Callable[[], Iterator[str]]:
    return lambda: run(kind, Issue)


def model(kind: str) -> Callable[[], Iterator[str]]:
    return lambda: (answer.label for answer in run(kind, Answer))


def native(kind: str) -> Callable[[], Iterator[str]]:
    return lambda: (answer.label for answer in run(kind, NativeOutput(Answer)))


def free(kind: str) -> Callable[[], Iterator[str]]:
    return lambda: (text(answer) for answer in run(kind, str, model_settings={"max_tokens": 16}))


main(
    {
        f"{kind}: {name}": way(kind)
        for kind in ("openai", "openai-chat")
        for name, way in {"text": free, "Literal": literal, "BaseModel": model, "NativeOutput": native}.items()
    }
)
