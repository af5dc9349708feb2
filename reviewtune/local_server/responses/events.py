"""The events of a streamed response, in OpenAI's order."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import HTTPException

from reviewtune.local_server.chat.streaming import Pieces
from reviewtune.local_server.chat.translation import new_call_id
from reviewtune.local_server.engine.types import GenerationResult, Progress, ToolCall
from reviewtune.local_server.protocol.api_errors import ApiError, server_error
from reviewtune.local_server.responses.items import Item, Status, call_item, message_item, new_id, text_part
from reviewtune.local_server.responses.translation import (
    Conversation,
    Response,
    logprobs,
    renamed,
    response,
    without_bytes,
)


class ResponseEvents:
    """The events of one response.

    Args:
        conversation: what is answered.
        answer: the engine's answer.
        pieces: the answer as far as it is written; None at its end.
        on_end: is called with the response when it is complete, before the client is told.
    """

    def __init__(
        self,
        conversation: Conversation,
        answer: asyncio.Task[GenerationResult],
        pieces: Pieces,
        on_end: Callable[[Response], None],
    ) -> None:
        self._conversation, self._answer, self._pieces, self._on_end = conversation, answer, pieces, on_end
        self._number = 0
        self._output: list[Item] = []  # the items that have begun; all but the last one have ended
        self._characters = self._tokens = 0  # sent of the text
        self._arguments = 0  # characters sent of the last call

    async def events(self, piece: Progress | None) -> AsyncIterator[str]:
        """All events.

        Args:
            piece: the first piece, or None if the answer is already complete.
        """
        try:
            yield self._event("response.created", response=response(self._conversation))
            yield self._event("response.in_progress", response=response(self._conversation))
            while piece is not None:
                for event in self._progress(piece):
                    yield event
                piece = await self._pieces.get()
            result = await self._answer
            for event in self._end(result):
                yield event
            whole = response(self._conversation, self._output, result)
            await asyncio.to_thread(self._on_end, whole)
            yield self._event(f"response.{whole['status']}", response=whole)
        except HTTPException as error:
            api_error = renamed(error) if isinstance(error, ApiError) else server_error(str(error.detail))
            yield self._event("error", code=api_error.code, message=api_error.message, param=api_error.param)

    def _progress(self, piece: Progress) -> Iterator[str]:
        """The events for what the client has not received."""
        scores = piece.logprobs[self._tokens :] if self._conversation.request.with_logprobs else ()
        text = piece.text[self._characters :]
        if (text or scores) and not piece.calls:
            yield from self._begin_text()
            self._characters, self._tokens = len(piece.text), len(piece.logprobs)
            self._part["text"] += text
            self._part["logprobs"] += (own := logprobs(scores))
            yield self._event("response.output_text.delta", **self._place, delta=text, logprobs=without_bytes(own))
        for index, call in enumerate(piece.calls):
            if index >= self._calls - 1:
                yield from self._call(index, call, piece.text)

    def _call(self, index: int, call: ToolCall, text: str) -> Iterator[str]:
        if index == self._calls:
            if self._characters < len(text):
                yield from self._progress(Progress(0, text))
            yield from self._end_item("completed")
            self._arguments = 0
            self._output.append(call_item(ToolCall(call.name, ""), new_id("fc"), new_call_id(), "in_progress"))
            yield self._added()
        item, delta = self._output[-1], call.arguments[self._arguments :]
        if delta:  # none while a request that is repeated alone catches up
            self._arguments = len(call.arguments)
            item["arguments"] = call.arguments
            yield self._event("response.function_call_arguments.delta", **self._item_place, delta=delta)

    def _end(self, result: GenerationResult) -> Iterator[str]:
        (choice,) = result.choices
        yield from self._progress(Progress(0, choice.text, choice.logprobs, choice.calls))
        if not self._output:
            yield from self._begin_text()  # the answer is empty
        yield from self._end_item("completed" if choice.finish_reason == "stop" else "incomplete")

    def _begin_text(self) -> Iterator[str]:
        if not self._output:
            self._output.append(message_item(new_id("msg"), [], "in_progress"))
            yield self._added()
            self._output[-1]["content"].append(text_part(""))
            yield self._event("response.content_part.added", **self._place, part=self._part)

    def _end_item(self, status: Status) -> Iterator[str]:
        """The events that end the item that has begun, if any."""
        if not self._output:
            return
        item = self._output[-1]
        item["status"] = status
        if item["type"] == "message":
            part = self._part
            scores = without_bytes(part["logprobs"])
            yield self._event("response.output_text.done", **self._place, text=part["text"], logprobs=scores)
            yield self._event("response.content_part.done", **self._place, part=part)
        else:
            yield self._event("response.function_call_arguments.done", **self._item_place, arguments=item["arguments"])
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    @property
    def _calls(self) -> int:
        """How many calls have begun."""
        return sum(item["type"] == "function_call" for item in self._output)

    @property
    def _part(self) -> Item:
        part: Item = self._output[-1]["content"][0]
        return part

    @property
    def _item_place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}

    @property
    def _place(self) -> dict[str, Any]:
        return {**self._item_place, "content_index": 0}

    def _added(self) -> str:
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=self._output[-1])

    def _event(self, kind: str, **content: Any) -> str:  # noqa: ANN401 - what JSON can hold
        data = {"type": kind, "sequence_number": self._number, **content}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
