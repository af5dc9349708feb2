"""instructor: its default mode, TOOLS, and those that its users change to."""

from collections.abc import Callable, Iterator

import instructor
import openai
from pydantic import BaseModel
from shared import MODEL, REVIEWS, Issue, main, messages


class Answer(BaseModel):
    label: Issue


def asking(client: instructor.Instructor) -> Callable[[], Iterator[str]]:
    def ask() -> Iterator[str]:
        for review in REVIEWS:
            yield client.chat.completions.create(
                model=MODEL, messages=messages(review), response_model=Answer, max_retries=1
            ).label

    return ask


def in_mode(mode: instructor.Mode) -> Callable[[], Iterator[str]]:
    return asking(instructor.from_openai(openai.OpenAI(), mode=mode))


main(
    {
        "from_provider": asking(instructor.from_provider(f"openai/{MODEL}")),
        "TOOLS": in_mode(instructor.Mode.TOOLS),
        "JSON_SCHEMA": in_mode(instructor.Mode.JSON_SCHEMA),
        "RESPONSES_TOOLS": in_mode(instructor.Mode.RESPONSES_TOOLS),
    }
)
