"""OpenAI's Agents SDK with its defaults: Responses, an output type, a tool; and the chat model."""

from collections.abc import Iterator
from typing import Any

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from shared import INSTRUCTIONS, MODEL, REVIEWS, Issue, main, text

set_tracing_disabled(True)  # traces go to OpenAI, whatever the address is


class Answer(BaseModel):
    label: Issue


@function_tool
def answer(label: Issue) -> str:
    """Name the issue of a review."""
    return label


def run(**options: Any) -> Iterator[Any]:
    agent = Agent(name="Support", instructions=INSTRUCTIONS, **{"model": MODEL, **options})
    for review in REVIEWS:
        yield Runner.run_sync(agent, review).final_output


def free() -> Iterator[str]:
    return (text(found) for found in run())


def output_type() -> Iterator[str]:
    return (found.label for found in run(output_type=Answer))


def tool() -> Iterator[str]:
    settings = ModelSettings(tool_choice="required")
    return run(tools=[answer], model_settings=settings, tool_use_behavior="stop_on_first_tool")


def chat_model() -> Iterator[str]:
    model = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI())
    return (found.label for found in run(model=model, output_type=Answer))


def default_model() -> Iterator[str]:
    """The user names none: the client takes its own, and sends settings of that one."""
    agent = Agent(name="Support", instructions=INSTRUCTIONS, output_type=Answer)
    for review in REVIEWS:
        yield Runner.run_sync(agent, review).final_output.label


main(
    {
        "text": free,
        "output_type": output_type,
        "tool": tool,
        "chat model, output_type": chat_model,
        "no name of a model": default_model,
    }
)
