"""Chat completions by the genuine client: parameters, shapes, streams, and many at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob

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
    answer = ChatCompletion.model_validate_json(raw.text, strict=True)
    assert not answer.model_extra
    assert answer.model == model
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content == answer.choices[1].message.content  # temperature 0
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 1 <= answer.usage.completion_tokens <= 8
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-processing-ms"].isdecimal()


@pytest.mark.parametrize("suffix", ["", ":ckpt-step-6"])
def test_seed_repeats_an_answer(client: openai.OpenAI, model: str, suffix: str) -> None:
    def ask(seed: int) -> str | None:
        answer = client.chat.completions.create(model=model + suffix, messages=ASK, seed=seed, max_tokens=12)
        return answer.choices[0].message.content

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(4)}) > 1


def test_limits_and_stops(client: openai.OpenAI, base: str) -> None:
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


def test_answer_can_be_handed_back(client: openai.OpenAI, base: str) -> None:
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


def test_schema_binds_the_answer(client: openai.OpenAI, base: str) -> None:
    answer = client.chat.completions.create(model=base, messages=ASK, response_format=SCHEMA, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(answer.choices[0].message.content or "")["label"] in ("billing", "delivery")


@pytest.mark.parametrize("logprobs", [False, True])
def test_stream_adds_up_to_the_answer(client: openai.OpenAI, base: str, logprobs: bool) -> None:
    options: Any = {"model": base, "messages": ASK, "temperature": 0, "max_completion_tokens": 9, "n": 2}
    options |= {"logprobs": logprobs}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
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
        assert len(parts) >= 3
        if choice.logprobs is not None:
            tokens = [token for part in parts if part.logprobs for token in part.logprobs.content or []]
            assert [token.token for token in tokens] == [token.token for token in choice.logprobs.content or []]


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
