"""LiteLLM's SDK: `openai/NAME`."""

import json
from collections.abc import Iterator

import litellm
from pydantic import BaseModel
from shared import INSTRUCTIONS, MODEL, REVIEWS, SCHEMA, Issue, main, messages, text

NAME = f"openai/{MODEL}"


class Answer(BaseModel):
    label: Issue


def completion() -> Iterator[str]:
    for review in REVIEWS:
        yield text(litellm.completion(NAME, messages(review), max_tokens=16).choices[0].message.content)


def stream() -> Iterator[str]:
    for review in REVIEWS:
        chunks = litellm.completion(NAME, messages(review), max_tokens=16, stream=True)
        yield text("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def response_format() -> Iterator[str]:
    for review in REVIEWS:
        answer = litellm.completion(NAME, messages(review), response_format=Answer)
        yield json.loads(answer.choices[0].message.content)["label"]


def tools() -> Iterator[str]:
    tool = {"type": "function", "function": {"name": "answer", "parameters": SCHEMA}}
    for review in REVIEWS:
        answer = litellm.completion(NAME, messages(review), tools=[tool], tool_choice="required")
        yield json.loads(answer.choices[0].message.tool_calls[0].function.arguments)["label"]


def responses() -> Iterator[str]:
    for review in REVIEWS:
        answer = litellm.responses(model=NAME, instructions=INSTRUCTIONS, input=review, text_format=Answer)
        yield json.loads(answer.output[0].content[0].text)["label"]


main(
    {
        "completion": completion,
        "completion, streamed": stream,
        "response_format": response_format,
        "tools": tools,
        "responses": responses,
    }
)
