"""Answers match their schema, do not depend on the rest of the batch, and end for the right reason."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import jsonschema_rs
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoTokenizer

from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.generation.constrained_decoding import answers_of, repeats_itself
from reviewtune.local_server.engine.generation.generate import Generator
from reviewtune.local_server.engine.generation.grammars import bounded_grammar
from reviewtune.local_server.engine.model_loading import load_model
from reviewtune.local_server.engine.types import (
    ChatMessage,
    ContextLengthExceeded,
    GenerationRequest,
    GenerationResult,
    UnsupportedSchema,
)
from tests.support.engine_models import LABELS, REVIEWS, SCHEMA, asked, one_thread, real, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
TEXTS = [text for texts in REVIEWS.values() for text in texts]
SHOTS = tuple((texts[0], label) for label, texts in REVIEWS.items())
GREEDY = GenerationRequest((ChatMessage("user", "Tell me a story of two cats."),), temperature=0, max_tokens=12)


class Reasoned(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reasoning: str = Field(max_length=30)
    label: Literal["delivery_delay", "damaged_item", "no_issue"]


class Mixed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    score: int = Field(ge=1, le=5)
    tags: list[Literal["a", "b"]] = Field(max_length=3)
    urgent: bool


@pytest.fixture(scope="module")
def small() -> Generator:
    return generate.load(tiny())


@pytest.fixture(scope="module")
def smol() -> Generator:
    """In fp32 on every machine, because these tests are not about rounding."""
    return Generator(load_model(real("smollm2-135m-instruct"), torch.float32, ATTENTION))


@pytest.fixture(scope="module")
def smol_bf16() -> Generator:
    """The precision on a GPU, and on a CPU with AMX."""
    return Generator(load_model(real("smollm2-135m-instruct"), torch.bfloat16, ATTENTION))


def texts(results: Sequence[GenerationResult]) -> list[str]:
    return [choice.text for result in results for choice in result.choices]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_answers_match_an_enum(small: Generator, temperature: float) -> None:
    request = GenerationRequest(asked("Late."), temperature=temperature, n=20, seed=1, schema=SCHEMA)
    answers = texts(small.complete([request]))
    assert set(answers) <= {json.dumps({"label": label}) for label in LABELS}
    assert len(set(answers)) == (1 if temperature == 0 else len(LABELS))


@pytest.mark.parametrize("model", [Reasoned, Mixed])
def test_answers_match_any_schema(small: Generator, model: type[BaseModel]) -> None:
    request = GenerationRequest(
        asked("Late."), temperature=1, n=4, seed=1, max_tokens=200, schema=model.model_json_schema()
    )
    for choice in small.complete([request])[0].choices:
        model.model_validate_json(choice.text)
        assert choice.finish_reason == "stop"


def test_a_bare_enum_is_a_schema_too(small: Generator) -> None:
    request = GenerationRequest(asked("Late."), temperature=0, schema={"type": "string", "enum": ["yes", "no"]})
    assert texts(small.complete([request]))[0] in ('"yes"', '"no"')


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        (SCHEMA, 3),
        ({"const": 1}, 1),
        ({"type": "boolean"}, 2),
        ({"type": "string"}, None),
        ({**SCHEMA, "required": []}, None),
        ({**SCHEMA, "properties": {"label": {"$ref": "#"}}}, None),
    ],
)
def test_few_answers_are_listed(schema: dict[str, object], count: int | None) -> None:
    answers = answers_of(schema)
    assert (answers and len(answers)) == count


@pytest.mark.parametrize("shots", [(), SHOTS])
def test_single_requests_get_the_answers_of_a_batch(smol: Generator, shots: tuple[tuple[str, str], ...]) -> None:
    requests = [GenerationRequest(asked(text, *shots), temperature=0, schema=SCHEMA) for text in TEXTS]
    requests += [replace(request, schema=None, max_tokens=5) for request in requests[:3]]
    alone = [smol.complete([request])[0] for request in requests]
    assert texts(smol.complete(requests)) == texts(alone)


@pytest.mark.parametrize("shots", [(), SHOTS])
def test_single_requests_get_the_labels_of_a_batch_in_bf16(
    smol_bf16: Generator, shots: tuple[tuple[str, str], ...]
) -> None:
    requests = [GenerationRequest(asked(text, *shots), temperature=0, schema=SCHEMA) for text in TEXTS]
    alone = [smol_bf16.complete([request])[0] for request in requests]
    assert texts(smol_bf16.complete(requests)) == texts(alone)


def test_greedy_text_is_transformers_own(smol: Generator) -> None:
    from transformers import AutoModelForCausalLM

    folder = real("smollm2-135m-instruct")
    network, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    prompt = torch.tensor([sum(ChatTemplate(tokenizer).prompt(GREEDY.messages), ())])
    own = network.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
    result = smol.complete([GREEDY])[0]
    assert result.choices[0].text == tokenizer.decode(own[0, prompt.shape[1] :])
    assert result.choices[0].finish_reason == "length"
    assert result.choices[0].completion_tokens == 12
    assert result.prompt_tokens == prompt.shape[1]


def test_a_shared_prefix_is_cached(small: Generator) -> None:
    requests = [GenerationRequest(asked(text, *SHOTS), temperature=0, schema=SCHEMA) for text in TEXTS[:2]]
    first, second = small.complete(requests)
    assert sorted((first.cached_tokens, second.cached_tokens))[0] == 0
    again = small.complete(requests)
    assert {result.cached_tokens for result in again} == {max(first.cached_tokens, second.cached_tokens)}
    assert texts(again) == texts([first, second])


def test_a_stop_text_ends_the_answer_and_is_cut_off(smol: Generator) -> None:
    whole = texts(smol.complete([GREEDY]))[0]
    stop = whole.split()[2]
    cut = smol.complete([replace(GREEDY, stop=(stop,))])[0].choices[0]
    assert cut.text == whole.split(stop)[0]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(("limit", "reason"), [(-1, "length"), (0, "stop"), (1, "stop")])
def test_an_answer_may_fill_its_limit(small: Generator, limit: int, reason: str) -> None:
    request = replace(GREEDY, schema={"const": "all is well"}, max_tokens=None)
    size = small.complete([request])[0].choices[0].completion_tokens
    choice = small.complete([replace(request, max_tokens=size + limit)])[0].choices[0]
    assert choice.finish_reason == reason
    assert choice.completion_tokens == min(size, size + limit)


def test_seeds_repeat_and_choices_differ(small: Generator) -> None:
    request = replace(GREEDY, temperature=1.0, n=3, seed=5)
    first, again, other = small.complete([request, request, replace(request, seed=50)])
    assert texts([first]) == texts([again])
    assert texts([first]) != texts([other])
    assert len(set(texts([first]))) == 3


def test_a_small_nucleus_is_greedy(small: Generator) -> None:
    sampled = replace(GREEDY, temperature=1.0, top_p=1e-6, seed=1)
    assert texts(small.complete([sampled])) == texts(small.complete([GREEDY]))


@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_logprobs_are_those_of_the_unconstrained_model(small: Generator, schema: dict[str, object] | None) -> None:
    request = replace(GREEDY, schema=schema, logprobs=True, top_logprobs=3)
    plain = replace(request, logprobs=False, top_logprobs=0)
    (choice,), (same,) = (result.choices for result in small.complete([request, plain]))
    assert choice.text == same.text
    assert len(choice.logprobs) == choice.completion_tokens
    assert b"".join(bytes(token.bytes) for token in choice.logprobs).decode() == choice.text
    for token in choice.logprobs:
        values = [top.logprob for top in token.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert token.logprob <= values[0] < 0
        assert math.exp(values[0]) < 0.01, "a random model spreads over all tokens, even where only one was allowed"


def test_a_prompt_beyond_the_context_is_refused(small: Generator) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        small.complete([replace(GREEDY, messages=asked("word " * 600))])
    assert caught.value.limit == 512
    assert caught.value.got > 600


def test_an_impossible_schema_is_refused(small: Generator) -> None:
    with pytest.raises(UnsupportedSchema):
        small.complete([replace(GREEDY, schema={"type": "nonsense"})])


def closed(**parts: object) -> dict[str, object]:
    return {"type": "object", "properties": parts, "required": [*parts], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "favourites"),
    [
        (closed(confidence={"type": "number"}, label={"type": "string", "enum": ["a", "b"]}), "17"),
        (closed(confidence={"type": ["number", "null"], "minimum": 0}), "3."),
        (closed(parts=closed(share={"$ref": "#/$defs/share"})) | {"$defs": {"share": {"type": "number"}}}, "0."),
        (closed(count={"type": "integer"}), "9"),
        (closed(count={"anyOf": [{"type": "integer"}, {"type": "null"}]}), "-9"),
        (closed(reason={"type": "string"}, label={"const": "x"}), "a"),
        (closed(reason={"type": "string"}), "ab "),
        (closed(numbers={"type": "array", "items": {"type": "integer"}}), "1,"),
        (closed(names={"type": "array", "items": {"enum": ["x", "y"]}}), ","),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": 1,'),
        ({"type": "object"}, '{"a": 1'),
    ],
    ids=str,
)
def test_what_a_model_would_repeat_for_ever_ends(small: Generator, schema: dict[str, object], favourites: str) -> None:
    bias = {token: 100.0 for letter in favourites for token in small._model.chat.plain(letter)}
    request = replace(GREEDY, schema=schema, logit_bias=bias, max_tokens=450)
    choice = small.complete([request])[0].choices[0]
    assert choice.finish_reason == "stop", choice.text
    jsonschema_rs.validate(schema, json.loads(choice.text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ({"type": "number"}, "0.953"),
        ({"type": "number"}, "-12345.5"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0.25"),
        ({"type": "number", "multipleOf": 0.5}, "7.5"),
        ({"type": "number", "minimum": 1e16}, "20000000000000000"),
        ({"type": "integer", "exclusiveMaximum": -(10**16)}, "-20000000000000000"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 120}, str([1] * 120)),
    ],
    ids=str,
)
def test_usual_values_are_allowed(small: Generator, kind: dict[str, object], text: str) -> None:
    matcher = bounded_grammar(closed(value=kind), small._vocabulary)
    tokens = list(small._model.chat.plain(f'{{"value": {text}}}'))
    assert matcher.validate_tokens(tokens) == len(tokens)


def test_text_that_repeats_itself_only_a_few_times_is_left_alone() -> None:
    assert repeats_itself([1, 2, 3] * 22)
    assert not repeats_itself([1, 2, 3] * 20)
    assert not repeats_itself([*[1, 2, 3] * 22, 4])
    assert not repeats_itself(list(range(100)))
    assert not repeats_itself([*range(40), *range(40)])
    assert repeats_itself([*range(40), *range(40), *range(40)])
