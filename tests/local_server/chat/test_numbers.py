"""Numbers of constrained answers: they end, keep the schema's limits, and other limits are refused by name."""

import json
import re
from typing import Any

import jsonschema_rs
import openai
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.serving import ServerProcess

ASK: Any = {"messages": [{"role": "user", "content": "How much?"}], "max_completion_tokens": 100}
BOUNDS = st.integers(-(10**6), 10**6) | st.floats(-1e9, 1e9).map(lambda value: round(value, 3))
STEPS = st.sampled_from([0.01, 0.5, 0.25, 1, 3, 7, 100])
LIMITS = st.fixed_dictionaries(
    {"type": st.sampled_from(["number", "integer"])},
    optional={"minimum": BOUNDS, "maximum": BOUNDS, "exclusiveMinimum": BOUNDS, "exclusiveMaximum": BOUNDS}
    | {"multipleOf": STEPS},
)


def number_of(client: openai.OpenAI, base: str, limits: dict[str, Any], **options: Any) -> str:
    """The text of a number that the model writes within these limits; a model with random weights writes any."""
    schema = {"type": "object", "properties": {"n": limits}, "required": ["n"], "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = client.chat.completions.create(model=base, response_format=form, **ASK | options).choices[0]
    text = answer.message.content or ""
    assert answer.finish_reason == "stop", text
    jsonschema_rs.validate(schema, json.loads(text))
    return text.removeprefix('{"n": ').removesuffix("}")


@settings(max_examples=50, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(limits=LIMITS, seed=st.integers(0, 1000))
def test_every_number_ends_within_its_limits(
    server: ServerProcess, base: str, limits: dict[str, Any], seed: int
) -> None:
    lower = max((limits[name] for name in ("minimum", "exclusiveMinimum") if name in limits), default=-(10**15))
    upper = min((limits[name] for name in ("maximum", "exclusiveMaximum") if name in limits), default=10**15)
    assume(upper - lower > 200)  # otherwise there may be no number at all
    text = number_of(server.client, base, limits, temperature=2, seed=seed)
    assert len(re.sub(r"[-.]", "", text).strip("0")) <= 15
    assert "e" not in text.lower()


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize("digit", ["9", "1", "0", ".", "-"])
def test_a_favourite_digit_does_not_go_on_for_ever(
    client: openai.OpenAI, base: str, tiny_digits: dict[str, int], kind: str, digit: str
) -> None:
    bias = {str(tiny_digits[digit]): 100}
    text = number_of(client, base, {"type": kind}, temperature=0, logit_bias=bias)
    assert len(re.sub(r"[-.]", "", text).strip("0")) <= 15


@pytest.fixture(scope="module")
def tiny_digits(base: str) -> dict[str, int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{base}/tokenizer.json")
    return {letter: tokenizer.encode(letter).ids[0] for letter in "0123456789.-"}


@pytest.mark.parametrize("seed", range(3))
def test_a_value_of_any_type_ends_too(client: openai.OpenAI, base: str, tiny_digits: dict[str, int], seed: int) -> None:
    bias = {str(tiny_digits[digit]): 30 for digit in "0123456789"}
    for limits in ({}, {"type": ["number", "null"], "minimum": 0}, {"anyOf": [{"type": "number"}, {"type": "null"}]}):
        number_of(client, base, limits, temperature=1, seed=seed, logit_bias=bias)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"type": "number", "multipleOf": 0}, "multipleOf"),
        ({"type": "number", "multipleOf": 123457}, "multipleOf"),
        ({"type": "number", "multipleOf": 1e-11}, "multipleOf"),
        ({"type": "integer", "minimum": 1e18}, "minimum"),
        ({"type": "number", "exclusiveMaximum": -1e300}, "exclusiveMaximum"),
        ({"type": "number", "minimum": "three"}, "minimum"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_kept_are_refused_by_name(
    client: openai.OpenAI, base: str, limits: dict[str, Any], word: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=word) as caught:
        number_of(client, base, limits)
    assert caught.value.param == "response_format"
    function: Any = {"name": "f", "parameters": {"type": "object", "properties": {"n": limits}}}
    with pytest.raises(openai.BadRequestError, match=word) as caught:
        client.chat.completions.create(model=base, tools=[{"type": "function", "function": function}], **ASK)
    assert "function 'f'" in str(caught.value)
