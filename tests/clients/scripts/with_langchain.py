"""LangChain: structured output by three methods, tools, and an agent whose answer has a form."""

from collections.abc import Callable, Iterator
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from shared import INSTRUCTIONS, MODEL, REVIEWS, Issue, main, messages, text

model = ChatOpenAI(model=MODEL)


class Answer(BaseModel):
    """The issue of a review."""

    label: Issue


@tool
def answer(label: Issue) -> str:
    """Name the issue of a review."""
    return label


def invoke() -> Iterator[str]:
    short = init_chat_model(f"openai:{MODEL}", max_tokens=16)
    for review in REVIEWS:
        yield text(short.invoke(messages(review)).content)


def stream() -> Iterator[str]:
    short = ChatOpenAI(model=MODEL, max_tokens=16)
    for review in REVIEWS:
        yield text("".join(chunk.text for chunk in short.stream(messages(review))))


def structured(**method: Any) -> Callable[[], Iterator[str]]:
    def ask() -> Iterator[str]:
        asker = model.with_structured_output(Answer, **method)
        for found in asker.batch([messages(review) for review in REVIEWS]):
            yield found.label

    return ask


def json_mode() -> Iterator[str]:
    """Any JSON object may be the answer: without a parser, as a random model does not name the field."""
    asker = model.with_structured_output(None, method="json_mode", include_raw=True)
    for review in REVIEWS:
        yield text(asker.invoke([*messages(review), {"role": "user", "content": "Answer in JSON."}])["raw"].content)


def bind_tools() -> Iterator[str]:
    asker = model.bind_tools([answer], tool_choice="any")
    for review in REVIEWS:
        yield asker.invoke(messages(review)).tool_calls[0]["args"]["label"]


def agent() -> Iterator[str]:
    asker = create_agent(model, tools=[], system_prompt=INSTRUCTIONS, response_format=Answer)
    for review in REVIEWS:
        yield asker.invoke({"messages": [{"role": "user", "content": review}]})["structured_response"].label


main(
    {
        "invoke": invoke,
        "stream": stream,
        "structured output, default": structured(),
        "structured output, json_schema": structured(method="json_schema"),
        "structured output, function_calling": structured(method="function_calling"),
        "structured output, json_mode": json_mode,
        "bind_tools": bind_tools,
        "create_agent(response_format=)": agent,
    }
)
