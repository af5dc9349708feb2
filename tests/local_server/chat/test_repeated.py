"""A request whose batch failed is repeated alone: its client receives every character of a call once."""

import asyncio
import json
from typing import Any

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.chat.streaming import Pieces, Stream
from reviewtune.local_server.engine.types import Generation, GenerationResult, Progress, ToolCall
from reviewtune.local_server.responses.events import ResponseEvents
from reviewtune.local_server.responses.requests import ResponseRequest
from reviewtune.local_server.responses.translation import begin

ARGUMENTS = '{"city": "Paris"}'
WRITTEN = (5, 12, 3, 9, 14, len(ARGUMENTS))  # characters of the call; after the second piece it begins again
WEATHER: Any = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
QUESTION: Any = [{"role": "user", "content": "What is the weather?"}]


class Written(Pieces):
    """The pieces of an answer as a slow engine writes them: none replaces the one before."""

    def __init__(self) -> None:
        super().__init__()
        self._lengths = iter(WRITTEN)

    async def get(self) -> Progress | None:
        length = next(self._lengths, None)
        return None if length is None else Progress(0, "", calls=(ToolCall("weather", ARGUMENTS[:length]),))


async def answer() -> GenerationResult:
    return GenerationResult(5, 0, (Generation("", "stop", 9, calls=(ToolCall("weather", ARGUMENTS),)),))


async def received(stream: Stream | ResponseEvents, pieces: Written) -> list[dict[str, Any]]:
    events = [event async for event in stream.events(await pieces.get())]
    lines = [line for event in events for line in event.splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_chat_sends_the_arguments_once() -> None:
    async def chat() -> list[dict[str, Any]]:
        tools = [{"type": "function", "function": WEATHER}]
        request = ChatRequest.model_validate({"model": "m", "messages": QUESTION, "stream": True, "tools": tools})
        pieces = Written()
        return await received(Stream(request, asyncio.create_task(answer()), pieces), pieces)

    deltas = [choice["delta"] for event in asyncio.run(chat()) for choice in event["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == ARGUMENTS


def test_a_response_sends_the_arguments_once() -> None:
    async def respond() -> list[dict[str, Any]]:
        tools = [{"type": "function", **WEATHER, "strict": False}]
        request = ResponseRequest.model_validate({"model": "m", "input": QUESTION, "stream": True, "tools": tools})
        pieces = Written()
        task = asyncio.create_task(answer())
        return await received(ResponseEvents(begin(request), task, pieces, lambda response: None), pieces)

    events = asyncio.run(respond())
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == ARGUMENTS
    assert [event["arguments"] for event in events if event["type"].endswith("arguments.done")] == [ARGUMENTS]
