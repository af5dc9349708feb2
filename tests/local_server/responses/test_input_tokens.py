"""Counting the tokens of an input: the same number as in the usage of an answer to it."""

from typing import Any

import openai
import pytest
from openai.types.responses.input_token_count_response import InputTokenCountResponse

from tests.support.wire import checked

LABEL: Any = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
TOOL: Any = {"type": "function", "name": "label", "description": "Do it.", "parameters": LABEL, "strict": False}
TEXTS: Any = [{"role": "user", "content": "billing was bad"}, {"role": "assistant", "content": "billing"}]
INPUTS: dict[str, Any] = {
    "text": {"input": "billing was bad, case 3"},
    "instructions": {"input": "billing was bad", "instructions": "Name the issue."},
    "messages": {"input": [*TEXTS, {"role": "user", "content": "and this?"}]},
    "tools": {"input": "billing was bad", "tools": [TOOL], "tool_choice": "required"},
    "a form": {"input": "x", "text": {"format": {"type": "json_schema", "name": "label", "schema": LABEL}}},
}


@pytest.mark.parametrize("name", INPUTS)
def test_the_number_is_that_of_an_answer(client: openai.OpenAI, base: str, name: str) -> None:
    raw = client.responses.input_tokens.with_raw_response.count(model=base, **INPUTS[name])
    counted = checked(InputTokenCountResponse, raw.text)
    answer = client.responses.create(model=base, max_output_tokens=16, store=False, **INPUTS[name])
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


def test_the_conversation_before_counts(client: openai.OpenAI, base: str) -> None:
    first = client.responses.create(model=base, input="billing was bad", max_output_tokens=16)
    later: Any = {"model": base, "input": "and now?", "previous_response_id": first.id}
    answer = client.responses.create(max_output_tokens=16, **later)
    assert answer.usage is not None
    assert client.responses.input_tokens.count(**later).input_tokens == answer.usage.input_tokens


def test_what_is_too_long_to_answer_can_be_counted(client: openai.OpenAI, base: str) -> None:
    long: Any = {"model": base, "input": "billing was bad. " * 4000}
    counted = client.responses.input_tokens.count(**long).input_tokens
    with pytest.raises(openai.BadRequestError, match="context length") as caught:
        client.responses.create(**long)
    assert f"the prompt has {counted} tokens" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"max_output_tokens": 16}, "max_output_tokens", "unknown_parameter"),
        ({"input": 7}, "input", "invalid_type"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"personality": "friendly"}, "personality", "unsupported_parameter"),
        ({"previous_response_id": "resp_0"}, "previous_response_id", "previous_response_not_found"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name", "invalid_value"),
    ],
    ids=str,
)
def test_refusals(client: openai.OpenAI, base: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses/input_tokens", body={"model": base, "input": "x"} | body, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, code)
    with pytest.raises(openai.NotFoundError):
        client.responses.input_tokens.count(model="nobody", input="x")
