"""Calls of functions through the openai client: every choice, whole and streamed, and the whole conversation."""

import json
from typing import Any, Literal

import jsonschema_rs
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.support.wire import checked

ASK: Any = [{"role": "user", "content": "billing was bad, case 3"}]
LABEL: Any = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["billing", "delivery"]}},
    "required": ["label"],
    "additionalProperties": False,
}
NOTE: Any = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 6}, "urgent": {"type": "boolean"}},
    "required": ["text"],
}


def tool(name: str, parameters: Any = None, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, "description": "Do it.", "parameters": parameters, **more}}


TOOLS: Any = [tool("label", LABEL, strict=True), tool("note", NOTE), tool("stop")]
SCHEMAS = {"label": LABEL, "note": NOTE, "stop": {"type": "object", "maxProperties": 0}}
NAMED: Any = {"type": "function", "function": {"name": "label"}}
ALLOWED: Any = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "stop"}}]},
}
OPTIONS: Any = {"max_completion_tokens": 400, "seed": 1, "temperature": 1.2}


def check_calls(choice: Any) -> None:
    """All calls are of the functions and have arguments that match their schema."""
    assert choice.message.tool_calls
    for call in choice.message.tool_calls:
        assert (call.type, call.id[:5]) == ("function", "call_")
        jsonschema_rs.validate(SCHEMAS[call.function.name], json.loads(call.function.arguments))


def test_a_named_function_is_called(client: openai.OpenAI, base: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=base, messages=ASK, tools=TOOLS, tool_choice=NAMED, n=2, **OPTIONS
    )
    answer = checked(ChatCompletion, raw.text)
    for choice in answer.choices:
        check_calls(choice)
        assert choice.finish_reason == "stop"  # as at OpenAI, if the function is named
        assert choice.message.content is None
        assert [call.function.name for call in choice.message.tool_calls or [] if call.type == "function"] == ["label"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 2
    plain = client.chat.completions.create(model=base, messages=ASK, max_completion_tokens=1)
    assert plain.usage is not None
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens  # the functions are part of the prompt


def test_a_call_is_required(client: openai.OpenAI, base: str) -> None:
    answer = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, tool_choice="required", n=4, **OPTIONS
    )
    for choice in answer.choices:
        check_calls(choice)
        assert choice.finish_reason == "tool_calls"


def test_only_allowed_functions_are_called(client: openai.OpenAI, base: str) -> None:
    choice = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, tool_choice=ALLOWED, parallel_tool_calls=False, **OPTIONS
    ).choices[0]
    check_calls(choice)
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []] == [
        ("stop", "{}")
    ]


def test_the_model_may_also_answer_with_text(client: openai.OpenAI, base: str) -> None:
    """The tiny model knows no tools: it writes text, and the answer says so."""
    choice = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, temperature=0, max_completion_tokens=6
    ).choices[0]
    assert choice.message.content
    assert choice.message.tool_calls is None


def test_without_a_choice_of_tools_nothing_is_called(client: openai.OpenAI, base: str) -> None:
    ask: Any = {"model": base, "messages": ASK, "temperature": 0, "max_completion_tokens": 6}
    plain = client.chat.completions.create(**ask)
    assert client.chat.completions.create(**ask, tools=TOOLS, tool_choice="none").choices == plain.choices
    assert client.chat.completions.create(**ask, tool_choice="none").choices == plain.choices


def test_text_in_a_given_form_next_to_tools(client: openai.OpenAI, base: str) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": LABEL}}
    choice = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, response_format=form, parallel_tool_calls=False, **OPTIONS
    ).choices[0]
    if choice.message.tool_calls:
        check_calls(choice)
    else:
        jsonschema_rs.validate(LABEL, json.loads(choice.message.content or ""))


def test_a_conversation_with_calls_and_results(client: openai.OpenAI, base: str) -> None:
    first = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, **OPTIONS
    ).choices[0]
    (call,) = first.message.tool_calls or []
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "done"}]}
    history: Any = [*ASK, first.message, result]
    for options in ({"tools": TOOLS}, {}):
        answer = client.chat.completions.create(model=base, messages=history, max_completion_tokens=3, **options)
        assert answer.choices[0].finish_reason in ("length", "stop")
    follow_up = client.chat.completions.create(
        model=base, messages=[*history, {"role": "user", "content": "sure?"}], max_completion_tokens=3
    )
    assert follow_up.choices


def test_a_call_that_was_cut_off(client: openai.OpenAI, base: str) -> None:
    choices = [
        client.chat.completions.create(
            model=base, messages=ASK, tools=TOOLS, tool_choice=NAMED, max_completion_tokens=limit
        ).choices[0]
        for limit in (2, 40)
    ]
    assert [choice.finish_reason for choice in choices] == ["length", "length"]
    assert choices[0].message.tool_calls is None


CHOICES: Any = [NAMED, "required", "auto", ALLOWED]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("more", [{}, {"logprobs": True}], ids=str)
def test_stream_adds_up_to_the_answer(client: openai.OpenAI, base: str, choice: Any, more: Any) -> None:
    ask: Any = {"model": base, "messages": ASK, "tools": TOOLS, "tool_choice": choice, "n": 2, **OPTIONS, **more}
    whole = client.chat.completions.create(**ask)
    with client.chat.completions.with_streaming_response.create(
        **ask, stream=True, stream_options={"include_usage": True}
    ) as raw:
        lines = [line for line in raw.iter_lines() if line]
    chunks = [checked(ChatCompletionChunk, line.removeprefix("data: ")) for line in lines[:-1]]
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    for index, expected in enumerate(whole.choices):
        parts = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == index]
        assert parts[-1].finish_reason == expected.finish_reason
        assert "".join(part.delta.content or "" for part in parts) == (expected.message.content or "")
        deltas = [call for part in parts for call in part.delta.tool_calls or []]
        calls = expected.message.tool_calls or []
        for number, call in enumerate(calls):
            own = [delta for delta in deltas if delta.index == number]
            assert [bool(delta.id and delta.type) for delta in own] == [True] + [False] * (len(own) - 1)
            assert "".join(delta.function.arguments or "" for delta in own if delta.function) == call.function.arguments
        assert {delta.index for delta in deltas} == set(range(len(calls)))
        tokens = [token for part in parts if part.logprobs for token in part.logprobs.content or []]
        if expected.logprobs is not None:
            assert [token.token for token in tokens] == [token.token for token in expected.logprobs.content or []]


def test_arguments_are_sent_while_they_are_written(client: openai.OpenAI, base: str) -> None:
    long: Any = [tool("write", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})]
    chunks = list(
        client.chat.completions.create(
            model=base, messages=ASK, tools=long, tool_choice="required", stream=True, **OPTIONS
        )
    )
    assert sum(bool(chunk.choices[0].delta.tool_calls) for chunk in chunks) > 5


class Label(BaseModel):
    label: Literal["billing", "delivery"]


def test_parsed_arguments_and_the_stream_helper(client: openai.OpenAI, base: str) -> None:
    tools: Any = [openai.pydantic_function_tool(Label)]
    ask: Any = {"model": base, "messages": ASK, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    answer = client.chat.completions.parse(**ask)
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Label)
    with client.chat.completions.stream(**ask) as stream:
        kinds = {event.type for event in stream}
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert isinstance(streamed.function.parsed_arguments, Label)


FUNCTIONS: Any = [{"name": "label", "parameters": LABEL}]


@pytest.mark.parametrize("stream", [False, True])
def test_the_older_form_of_functions(client: openai.OpenAI, base: str, stream: bool) -> None:
    ask: Any = {"model": base, "messages": ASK, "functions": FUNCTIONS, "function_call": {"name": "label"}, **OPTIONS}
    answer = client.chat.completions.create(**ask)
    called = answer.choices[0].message.function_call
    assert called is not None
    assert answer.choices[0].message.tool_calls is None
    jsonschema_rs.validate(LABEL, json.loads(called.arguments))
    if stream:
        deltas = [chunk.choices[0].delta.function_call for chunk in client.chat.completions.create(**ask, stream=True)]
        assert "".join(delta.arguments or "" for delta in deltas if delta) == called.arguments
        assert [delta.name for delta in deltas if delta and delta.name] == ["label"]
    history: Any = [*ASK, answer.choices[0].message, {"role": "function", "name": "label", "content": "done"}]
    assert client.chat.completions.create(model=base, messages=history, functions=FUNCTIONS, max_tokens=2).choices


def test_arguments_of_few_answers_have_log_probabilities_of_each(client: openai.OpenAI, base: str) -> None:
    """A forced choice is scored as a label of a JSON schema is: the tokens of all options are listed."""
    choice = client.chat.completions.create(
        model=base, messages=ASK, tools=TOOLS, tool_choice=NAMED, logprobs=True, top_logprobs=5, temperature=0
    ).choices[0]
    assert choice.logprobs is not None
    text = bytes(byte for token in choice.logprobs.content or [] for byte in token.bytes or []).decode()
    (call,) = choice.message.tool_calls or []
    assert call.function.arguments in text  # type: ignore[union-attr]
