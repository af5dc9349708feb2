"""Chat completions through the openai client: every parameter does what OpenAI documents."""

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema_rs
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.fine_tuning import FineTuningJob
from tokenizers import Tokenizer

from tests.support.wire import checked

ASK: Any = [{"role": "system", "content": "Name the issue."}, {"role": "user", "content": "billing was bad, case 3"}]
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "label",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": ["billing", "delivery"]}},
            "required": ["label"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def model(tuned: FineTuningJob) -> str:
    assert tuned.fine_tuned_model is not None
    return tuned.fine_tuned_model


def test_answer_has_the_shape(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=ASK, n=2, max_completion_tokens=4, temperature=0
    )
    answer = checked(ChatCompletion, raw.text)
    assert answer.id.startswith("chatcmpl-")
    assert abs(answer.created - time.time()) < 3600
    assert answer.choices[0].message.refusal is None
    assert answer.model == model
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content == answer.choices[1].message.content  # temperature 0
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 1 <= answer.usage.completion_tokens <= 8
    single = client.chat.completions.create(model=model, messages=ASK, max_completion_tokens=4, temperature=0)
    assert single.usage is not None
    assert answer.usage.prompt_tokens == single.usage.prompt_tokens  # counts once
    assert answer.usage.completion_tokens == 2 * single.usage.completion_tokens


def test_headers(client: openai.OpenAI, base: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=base, messages=ASK, max_completion_tokens=1)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-processing-ms"].isdecimal()
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-organization"] == "local"
    for limited in ("requests", "tokens"):
        limit, remaining = (int(raw.headers[f"x-ratelimit-{name}-{limited}"]) for name in ("limit", "remaining"))
        assert 0 < remaining <= limit
        assert re.fullmatch(r"(\d+m)?\d+s|\d+ms", raw.headers[f"x-ratelimit-reset-{limited}"])
    assert not [name for name in client.models.with_raw_response.list().headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("suffix", ["", ":ckpt-step-6"])
def test_seed_repeats_an_answer(client: openai.OpenAI, model: str, suffix: str) -> None:
    def ask(seed: int) -> str | None:
        answer = client.chat.completions.create(model=model + suffix, messages=ASK, seed=seed, max_tokens=12)
        return answer.choices[0].message.content

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(4)}) > 1


def spoken(choice: Any) -> list[tuple[int, ...]]:
    """An answer's tokens, by their bytes."""
    return [tuple(token.bytes or ()) for token in choice.logprobs.content]


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


@pytest.mark.parametrize(("frequency", "presence"), [(2, 0), (0, 2), (0.7, -1.3), (-2, 0)])
def test_penalties(client: openai.OpenAI, base: str, frequency: float, presence: float) -> None:
    """Known from the documented formula: score - count * frequency_penalty - (count > 0) * presence_penalty."""
    choice = client.chat.completions.create(
        model=base,
        messages=ASK,
        temperature=0,
        max_completion_tokens=24,
        logprobs=True,
        top_logprobs=20,
        frequency_penalty=frequency,
        presence_penalty=presence,
    ).choices[0]
    assert choice.logprobs is not None
    counts: Counter[tuple[int, ...]] = Counter()
    for token in choice.logprobs.content or []:

        def penalized(other: Any) -> float:
            count = counts[tuple(other.bytes)]
            return float(other.logprob - count * frequency - (count > 0) * presence)

        assert penalized(token) >= max(penalized(other) for other in token.top_logprobs) - 1e-4
        counts[tuple(token.bytes or ())] += 1
    if frequency == 2:
        plain = client.chat.completions.create(
            model=base, messages=ASK, temperature=0, max_completion_tokens=24, logprobs=True
        )
        assert max(counts.values()) < max(Counter(spoken(plain.choices[0])).values())


def test_logit_bias(client: openai.OpenAI, base: str, words: Tokenizer) -> None:
    def ask(bias: dict[str, int], **options: Any) -> Any:
        return client.chat.completions.create(
            model=base, messages=ASK, max_completion_tokens=6, logit_bias=bias, logprobs=True, **options
        ).choices[0]

    assert ask({str(words.token_to_id("d")): 100}).message.content == "dddddd"
    most_likely = spoken(ask({}, temperature=0))[0]
    (banned,) = [
        number for number in range(words.get_vocab_size()) if words.decode([number]).encode() == bytes(most_likely)
    ]
    assert most_likely not in spoken(ask({str(banned): -100}, temperature=0))
    end = str(words.token_to_id("<|im_end|>"))
    ended = ask({end: 100})
    assert (ended.message.content, ended.finish_reason) == ("", "stop")
    with pytest.raises(openai.BadRequestError) as caught:
        ask({"100000": 1})
    assert (caught.value.param, caught.value.code) == ("logit_bias", "invalid_value")


@pytest.mark.parametrize("options", [{"top_p": 0}, {"temperature": 1e-300}, {"top_p": 1e-9, "temperature": 2}])
def test_settings_that_leave_no_randomness(client: openai.OpenAI, base: str, options: Any) -> None:
    """All of these leave only the most likely token."""
    ask: Any = {"model": base, "messages": ASK, "max_completion_tokens": 6}
    greedy = client.chat.completions.create(**ask, temperature=0)
    assert client.chat.completions.create(**ask, **options).choices[0].message == greedy.choices[0].message


def test_length_limits_and_stop_texts(client: openai.OpenAI, base: str) -> None:
    def ask(**options: Any) -> Any:
        return client.chat.completions.create(model=base, messages=ASK, temperature=0, **options).choices[0]

    long = ask(max_completion_tokens=12)
    assert ask(max_completion_tokens=1).finish_reason == "length"
    cut = long.message.content[3:5]
    stopped = ask(max_completion_tokens=12, stop=[cut, "never in it"])
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == long.message.content.partition(cut)[0]


def test_content_parts_and_developer_role(client: openai.OpenAI, base: str) -> None:
    parts: Any = [
        {"role": "developer", "content": "Name the issue."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "billing was"}, {"type": "text", "text": " bad, case 3"}],
        },
    ]
    options: Any = {"model": base, "temperature": 0, "max_completion_tokens": 4}
    joined = client.chat.completions.create(messages=parts, **options)
    plain = client.chat.completions.create(messages=ASK, **options)
    assert joined.choices[0].message.content == plain.choices[0].message.content


def test_an_answer_can_be_sent_back(client: openai.OpenAI, base: str) -> None:
    first = client.chat.completions.create(model=base, messages=ASK, max_completion_tokens=4).choices[0].message
    history: Any = [*ASK, first, {"role": "user", "content": "sure?"}]
    assert client.chat.completions.create(model=base, messages=history, max_completion_tokens=4).choices


def test_logprobs(client: openai.OpenAI, base: str) -> None:
    choice = client.chat.completions.create(
        model=base, messages=ASK, logprobs=True, top_logprobs=3, max_completion_tokens=5, temperature=0
    ).choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content
    assert tokens
    for token in tokens:
        assert token.logprob <= 0
        assert 1 <= len(token.top_logprobs) <= 3
        assert token.top_logprobs[0].logprob == max(top.logprob for top in token.top_logprobs)
        assert token.top_logprobs[0].bytes == token.bytes  # temperature 0
    text = bytes(byte for token in tokens for byte in token.bytes or []).decode(errors="replace")
    assert text == choice.message.content
    bare = client.chat.completions.create(model=base, messages=ASK, logprobs=True, max_completion_tokens=2).choices[0]
    assert bare.logprobs is not None
    assert [token.top_logprobs for token in bare.logprobs.content or []] == [[]] * len(bare.logprobs.content or [])


def test_schema_binds_the_answer(client: openai.OpenAI, base: str) -> None:
    answer = client.chat.completions.create(model=base, messages=ASK, response_format=SCHEMA, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(answer.choices[0].message.content or "")["label"] in ("billing", "delivery")


def closed(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "required": [*parts], "additionalProperties": False}


WORD = {"type": "string", "maxLength": 4}
SCHEMAS = [
    closed(word=WORD, number={"type": "integer", "minimum": -5, "maximum": 40}, sure={"type": "boolean"}),
    closed(list={"type": "array", "items": {"enum": ["a", "b", 3, None]}, "minItems": 2, "maxItems": 4}),
    closed(maybe={"anyOf": [WORD, {"type": "null"}]}, both={"type": ["boolean", "null"]}),
    closed(inner=closed(deep=closed(kind={"const": "x"}), size={"type": "integer", "minimum": 0, "maximum": 1})),
    closed(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    closed(first={"$ref": "#/$defs/part"}, second={"$ref": "#/$defs/part"}) | {"$defs": {"part": closed(w=WORD)}},
    closed(label={"type": "string", "enum": ["äpfel", 'quo"te', "back\\slash", ""]}),
    closed(),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: ",".join(schema["properties"]) or "empty")
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_any_strict_schema_binds_the_answer(client: openai.OpenAI, base: str, schema: Any, temperature: float) -> None:
    response_format: Any = {
        "type": "json_schema",
        "json_schema": {"name": "any-one_1", "strict": True, "schema": schema},
    }
    answer = client.chat.completions.create(
        model=base,
        messages=ASK,
        response_format=response_format,
        temperature=temperature,
        n=3,
        max_completion_tokens=200,
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema_rs.validate(schema, json.loads(choice.message.content or ""))


def test_json_object(client: openai.OpenAI, base: str) -> None:
    answer = client.chat.completions.create(
        model=base, messages=ASK, response_format={"type": "json_object"}, n=8, max_completion_tokens=60, seed=1
    )
    ended = [choice for choice in answer.choices if choice.finish_reason == "stop"]
    assert ended
    assert all(isinstance(json.loads(choice.message.content or ""), dict) for choice in ended)


OPEN = {"type": "object", "properties": {"a": WORD}, "required": ["a"]}
NOT_STRICT = [
    ({"type": "array", "items": WORD}, "root"),
    ({"anyOf": [closed(a=WORD)]}, "root"),
    (OPEN, "additionalProperties"),
    (closed(a=WORD) | {"required": []}, "Missing 'a'"),
    (closed(a={"type": "array", "items": OPEN}), "'properties', 'a', 'items'"),
    (closed(a={"$ref": "#/$defs/x"}) | {"$defs": {"x": OPEN}}, "'[$]defs', 'x'"),
]


@pytest.mark.parametrize(("schema", "message"), NOT_STRICT)
def test_strict_schemas_are_closed(client: openai.OpenAI, base: str, schema: Any, message: str) -> None:
    def ask(strict: bool) -> Any:
        response_format: Any = {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": schema}}
        return client.chat.completions.create(
            model=base, messages=ASK, response_format=response_format, max_completion_tokens=9
        )

    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ask(strict=True)
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_json_schema")
    assert ask(strict=False).choices


def test_a_schema_that_leaves_more_properties_open_gets_none(client: openai.OpenAI, base: str) -> None:
    """pydantic writes such schemas. A small model would go on inventing properties until the answer is cut off."""
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    response_format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = client.chat.completions.create(model=base, messages=ASK, response_format=response_format, n=8)
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert {choice.message.content for choice in answer.choices} <= {'{"a": "x"}', '{"a": "y"}'}


def test_a_schema_that_is_nested_too_deeply(client: openai.OpenAI, base: str) -> None:
    schema: dict[str, Any] = {"const": 1}
    for _ in range(450):
        schema = closed(a=schema)
    for strict in (True, False):
        response_format: Any = {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": schema}}
        with pytest.raises(openai.BadRequestError, match="nested too deeply"):
            client.chat.completions.create(model=base, messages=ASK, response_format=response_format)


STREAMED: Any = [
    {},
    {"logprobs": True, "top_logprobs": 2},
    {"response_format": SCHEMA},
    {"response_format": SCHEMA, "logprobs": True},
    {"temperature": 1.7, "seed": 3, "stop": ["e", "il", "ing"], "max_completion_tokens": 60},
    {"temperature": 1.7, "seed": 4, "max_completion_tokens": 60},
]


@pytest.mark.parametrize("more", STREAMED, ids=str)
def test_stream_adds_up_to_the_answer(client: openai.OpenAI, base: str, more: dict[str, Any]) -> None:
    options: Any = {"model": base, "messages": ASK, "temperature": 0, "max_completion_tokens": 9, "n": 2} | more
    whole = client.chat.completions.create(**options)
    with client.chat.completions.with_streaming_response.create(
        **options, stream=True, stream_options={"include_usage": True}
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-ratelimit-limit-requests"].isdecimal()
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [checked(ChatCompletionChunk, line.removeprefix("data: ")) for line in lines[:-1]]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    for index, choice in enumerate(whole.choices):
        parts = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == index]
        assert (parts[0].delta.role, parts[-1].finish_reason) == ("assistant", choice.finish_reason)
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content
        assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].delta.content is None
        if choice.logprobs is not None:
            tokens = [token for part in parts if part.logprobs for token in part.logprobs.content or []]
            assert [token.token for token in tokens] == [token.token for token in choice.logprobs.content or []]


def test_text_is_sent_while_it_is_generated(client: openai.OpenAI, base: str, words: Tokenizer) -> None:
    """The first word arrives long before the last one, so the answer is not held back until it is complete."""
    begin = time.perf_counter()
    times = [
        time.perf_counter() - begin
        for chunk in client.chat.completions.create(
            model=base,
            messages=ASK,
            temperature=0,
            stream=True,
            max_completion_tokens=300,
            logit_bias={str(words.token_to_id("<|im_end|>")): -100},
        )
        if chunk.choices and chunk.choices[0].delta.content
    ]
    assert len(times) > 100
    assert times[0] < times[-1] / 2


def test_a_refused_stream_is_an_ordinary_error(client: openai.OpenAI, base: str) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=ASK, stream=True)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=base, messages=[{"role": "user", "content": "bad case " * 20000}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"


def test_a_client_may_leave_a_stream(client: openai.OpenAI, base: str) -> None:
    with client.chat.completions.create(model=base, messages=ASK, stream=True, max_completion_tokens=200) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model=base, messages=ASK, max_completion_tokens=1).choices


def test_stream_without_usage(client: openai.OpenAI, base: str) -> None:
    chunks = list(client.chat.completions.create(model=base, messages=ASK, stream=True, max_completion_tokens=3))
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_many_at_once_get_their_own_answers(client: openai.OpenAI, base: str) -> None:
    def ask(index: int) -> str | None:
        messages: Any = [{"role": "user", "content": f"delivery case {index % 8}"}]
        answer = client.chat.completions.create(model=base, messages=messages, temperature=0, max_completion_tokens=6)
        return answer.choices[0].message.content

    alone = [ask(index) for index in range(8)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(48)))
    assert together == alone * 6


def test_schema_that_makes_no_sense(client: openai.OpenAI, base: str) -> None:
    nonsense: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strnig"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=base, messages=ASK, response_format=nonsense)
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_json_schema")


def test_conversation_longer_than_the_model(client: openai.OpenAI, base: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=base, messages=[{"role": "user", "content": "bad case " * 20000}])
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
