"""The Responses API through the openai client: input, forms of text, tools, events, and stored responses."""

import json
from typing import Any, Literal

import httpx2
import jsonschema_rs
import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseItemList, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.support.serving import ServerProcess, upload, wait_for
from tests.support.wire import checked, error_of

EXTRA = {"store"}  # a field of the API that the package does not have
LABEL: Any = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["billing", "delivery"]}},
    "required": ["label"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "name": "label", "description": "Do it.", "parameters": LABEL, "strict": True},
    {"type": "function", "name": "stop", "parameters": None},
]
FORM: Any = {"format": {"type": "json_schema", "name": "label", "schema": LABEL, "strict": True}}
ASK: Any = {"input": "billing was bad, case 3", "temperature": 0, "max_output_tokens": 16}
NOT_STRICT: Any = {"format": FORM["format"] | {"schema": {"type": "object"}}}
BROKEN: Any = {"format": FORM["format"] | {"strict": False, "schema": {"type": "strnig"}}}
EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def test_answer_has_the_shape(client: openai.OpenAI, base: str) -> None:
    raw = client.responses.with_raw_response.create(model=base, instructions="Name it.", metadata={"k": "v"}, **ASK)
    assert raw.headers["x-ratelimit-limit-requests"].isdecimal()
    answer = checked(Response, raw.text, EXTRA)
    assert answer.id.startswith("resp_")
    assert (answer.object, answer.model, answer.error) == ("response", base, None)
    assert (answer.instructions, answer.metadata, answer.max_output_tokens) == ("Name it.", {"k": "v"}, 16)
    (message,) = answer.output
    assert message.type == "message"
    assert message.id.startswith("msg_")
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    if answer.usage.output_tokens == 16:
        assert (answer.status, message.status) == ("incomplete", "incomplete")
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"


def test_the_same_answer_as_a_chat(client: openai.OpenAI, base: str) -> None:
    """Instructions are the system message, and all forms of input say the same."""
    messages: Any = [{"role": "system", "content": "Name it."}, {"role": "user", "content": ASK["input"]}]
    chat = client.chat.completions.create(model=base, messages=messages, temperature=0, max_completion_tokens=16)
    parts: Any = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASK["input"]}]}]
    forms: Any = [
        {"instructions": "Name it."},
        {"input": messages},
        {"instructions": "Name it.", "input": parts},
        {"input": [{"role": "developer", "content": "Name it."}, *parts]},
    ]
    for form in forms:
        answer = client.responses.create(**{"model": base, **ASK, **form})
        assert answer.output_text == chat.choices[0].message.content
        assert answer.usage is not None
        assert chat.usage is not None
        assert answer.usage.input_tokens == chat.usage.prompt_tokens


class Label(BaseModel):
    label: Literal["billing", "delivery"]


def test_forms_of_text(client: openai.OpenAI, base: str) -> None:
    strict = client.responses.create(model=base, text=FORM, **ASK | {"max_output_tokens": 60})
    jsonschema_rs.validate(LABEL, json.loads(strict.output_text))
    assert strict.status == "completed"
    parsed = client.responses.parse(model=base, input="billing", text_format=Label)
    assert isinstance(parsed.output_parsed, Label)
    text: Any = {"format": {"type": "json_object"}}
    free = client.responses.create(model=base, text=text, input="billing", max_output_tokens=16)
    assert free.output_text.startswith("{")


def test_a_conversation_with_tools(client: openai.OpenAI, base: str) -> None:
    choice: Any = {"type": "function", "name": "label"}
    raw = client.responses.with_raw_response.create(
        model=base, tools=TOOLS, tool_choice=choice, input=ASK["input"], max_output_tokens=200
    )
    first = checked(Response, raw.text, EXTRA)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.status) == ("label", "completed")
    jsonschema_rs.validate(LABEL, json.loads(call.arguments))
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    chained = client.responses.create(
        model=base, input=[result], previous_response_id=first.id, tools=TOOLS, temperature=0, max_output_tokens=16
    )
    history: Any = [{"role": "user", "content": ASK["input"]}, call, result]
    whole = client.responses.create(model=base, input=history, tools=TOOLS, temperature=0, max_output_tokens=16)
    assert chained.output_text == whole.output_text
    assert chained.usage is not None
    assert whole.usage is not None
    assert chained.usage.input_tokens == whole.usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
        client.responses.create(model=base, input="and?", previous_response_id=first.id)


STREAMED: Any = [
    {},
    {"text": FORM},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    {"tools": TOOLS, "tool_choice": "required"},
    {"tools": TOOLS, "tool_choice": {"type": "function", "name": "stop"}},
    {"tools": TOOLS},
]


@pytest.mark.parametrize("more", STREAMED, ids=str)
def test_events_add_up_to_the_answer(client: openai.OpenAI, base: str, more: Any) -> None:
    ask: Any = {"model": base, **ASK, **more, "max_output_tokens": 120, "stream": True}
    with client.responses.with_streaming_response.create(**ask) as raw:
        lines = [line for line in raw.iter_lines() if line]
    named, data = lines[::2], [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert named == [f"event: {event['type']}" for event in data]
    assert [event["sequence_number"] for event in data] == list(range(len(data)))
    for event in data:
        EVENTS.validate_python(event)
    kinds = [event["type"].removeprefix("response.") for event in data]
    assert kinds[:3] == ["created", "in_progress", "output_item.added"]
    assert kinds[-2] == "output_item.done"
    answer = checked(Response, data[-1]["response"], EXTRA)
    assert kinds[-1] == answer.status
    assert [event["item"] for event in data if event["type"] == "response.output_item.done"] == data[-1]["response"][
        "output"
    ]
    for index, item in enumerate(answer.output):
        own = [event for event in data if event.get("output_index") == index]
        deltas = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        short = [event["type"].removeprefix("response.") for event in own if not event["type"].endswith(".delta")]
        if item.type == "message":
            assert short == [
                "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done"
            ]  # fmt: skip
            assert deltas == answer.output_text
        else:
            assert isinstance(item, ResponseFunctionToolCall)
            assert short == ["output_item.added", "function_call_arguments.done", "output_item.done"]
            assert deltas == item.arguments
    whole = client.responses.create(**ask | {"stream": False})
    same = {"id", "call_id"}
    assert _without(whole.model_dump()["output"], same) == _without(answer.model_dump()["output"], same)
    assert whole.usage is not None
    assert answer.usage is not None
    assert whole.usage.output_tokens == answer.usage.output_tokens
    assert client.responses.retrieve(answer.id).output == answer.output  # stored before the client is told


def _without(items: Any, keys: set[str]) -> Any:
    return [{key: value for key, value in item.items() if key not in keys} for item in items]


def test_the_stream_helper(client: openai.OpenAI, base: str) -> None:
    with client.responses.stream(model=base, input="billing", text_format=Label) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert isinstance(final.output_parsed, Label)


def test_stored_responses(client: openai.OpenAI, base: str) -> None:
    first = client.responses.create(model=base, **ASK)
    assert client.responses.retrieve(first.id) == first
    second = client.responses.create(model=base, **ASK | {"input": "sure?", "previous_response_id": first.id})
    assert second.previous_response_id == first.id
    raw = client.responses.input_items.with_raw_response.list(second.id, order="asc")
    page = checked(ResponseItemList, raw.text)
    assert [item.type for item in page.data] == ["message"] * 3
    assert [item.id for item in page.data][1] == first.output[0].id
    newest = client.responses.input_items.list(second.id, limit=2)
    assert [item.id for item in newest] == [item.id for item in reversed(page.data)]  # over two pages
    history: Any = [
        {"role": "user", "content": ASK["input"]},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "sure?"},
    ]
    whole = client.responses.create(model=base, **ASK | {"input": history})
    assert whole.output_text == second.output_text
    client.responses.delete(first.id)
    for missing in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{first.id}' not found"):
            missing(first.id)
    assert list(client.responses.input_items.list(second.id))  # a later response keeps its own copy
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.responses.cancel(second.id)


def test_reasoning_that_is_not_there_may_be_asked_for(client: openai.OpenAI, base: str) -> None:
    """Clients of reasoning models send this with every request."""
    wish: Any = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}}
    answer = client.responses.create(model=base, store=False, **ASK, **wish)
    assert [item.type for item in answer.output] == ["message"]


def test_what_is_not_stored_is_not_found(client: openai.OpenAI, base: str) -> None:
    answer = client.responses.create(model=base, store=False, **ASK)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=base, previous_response_id=answer.id, **ASK)
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"background": True}, "background", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"include": ["file_search_call.results"]}, "include[0]", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type", "invalid_value"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tools": [TOOLS[0] | {"parameters": {"type": "array"}}]}, "tools[0].parameters", "invalid_function_parameters"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type", "invalid_value"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "invalid_value"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input", "invalid_value"),
    ({"input": []}, "input", "empty_array"),
    ({"input": "bad case " * 20000}, "input", "context_length_exceeded"),
    ({"input": None}, "input", "invalid_type"),
    ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"text": {"verbosity": "chatty"}}, "text.verbosity", "invalid_value"),
    ({"text": NOT_STRICT}, "text.format.schema", "invalid_json_schema"),
    ({"text": BROKEN}, "text.format", "invalid_json_schema"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"n": 2}, "n", "unknown_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "param", "code"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_a_local_model_cannot_do_is_refused_by_name(
    server: ServerProcess, base: str, changes: dict[str, Any], param: str, code: str
) -> None:
    answer = httpx2.post(f"{server.base_url}/responses", json={"model": base, "input": "x"} | changes, timeout=60)
    error = error_of(answer, 400)
    assert (error["param"], error["code"]) == (param, code), error


def test_other_errors(client: openai.OpenAI, server: ServerProcess) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="nobody", input="x")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert error_of(httpx2.post(f"{server.base_url}/responses", json={"input": "x"}), 400)["param"] == "model"


def test_responses_in_a_batch(client: openai.OpenAI, base: str) -> None:
    bodies: Any = [
        {"model": base, **ASK},
        {"model": base, "input": "x", "tools": TOOLS, "tool_choice": "required", "max_output_tokens": 200},
        {"model": base, "input": "x", "background": True},
        {"model": base, "input": "x", "store": True},
    ]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/responses", "body": body}
        for number, body in enumerate(bodies)
    ]
    batch = client.batches.create(
        input_file_id=upload(client, lines, "batch").id, endpoint="/v1/responses", completion_window="24h"
    )
    batch = wait_for(lambda: (current := client.batches.retrieve(batch.id)).status == "completed" and current)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 2, "failed": 2}
    output = [json.loads(line) for line in client.files.content(batch.output_file_id or "").text.splitlines()]
    answers = {line["custom_id"]: checked(Response, line["response"]["body"], EXTRA) for line in output}
    assert answers["0"].output_text == client.responses.create(model=base, **ASK).output_text
    assert answers["1"].output[0].type == "function_call"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answers["0"].id)  # it is in the output file
    errors = [json.loads(line) for line in client.files.content(batch.error_file_id or "").text.splitlines()]
    refused = {line["custom_id"]: line["response"]["body"]["error"]["param"] for line in errors}
    assert refused == {"2": "background", "3": "store"}
