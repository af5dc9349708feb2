"""Text completions through the openai client: a prompt is continued as it is, and every parameter does what it says."""

import json
import math
import time
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.fine_tuning import FineTuningJob
from tokenizers import Tokenizer

from tests.local_server.batches.test_conformance import lines_of
from tests.support.serving import ServerProcess, upload, wait_for
from tests.support.wire import checked, error_of

PROMPT = "<|im_start|>system\nName the issue.<|im_end|>\n<|im_start|>user\nbilling was bad, case 3<|im_end|>\n"
PROMPT += "<|im_start|>assistant\n"
CHAT: Any = [{"role": "system", "content": "Name the issue."}, {"role": "user", "content": "billing was bad, case 3"}]
ASK: Any = {"prompt": "billing was bad, case", "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def model(tuned: FineTuningJob) -> str:
    assert tuned.fine_tuned_model is not None
    return tuned.fine_tuned_model


@pytest.fixture(scope="module")
def tokenizer(base: str) -> Tokenizer:
    return Tokenizer.from_file(f"{base}/tokenizer.json")


def test_an_answer_has_the_shape(client: openai.OpenAI, model: str) -> None:
    raw = client.completions.with_raw_response.create(model=model, n=2, **ASK)
    answer = checked(Completion, raw.text)
    assert answer.id.startswith("cmpl-")
    assert abs(answer.created - time.time()) < 3600
    assert answer.model == model
    assert [(choice.index, choice.logprobs) for choice in answer.choices] == [(0, None), (1, None)]
    assert answer.choices[0].text == answer.choices[1].text  # temperature 0
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 2 <= answer.usage.completion_tokens <= 12


def test_a_prompt_in_the_form_of_the_template_gets_the_answer_of_a_chat(client: openai.OpenAI, model: str) -> None:
    """No template is added, and special tokens in a prompt count as such."""
    chat = client.chat.completions.create(model=model, messages=CHAT, max_completion_tokens=8, temperature=0)
    own = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0)
    assert own.choices[0].text == chat.choices[0].message.content
    assert own.usage is not None
    assert chat.usage is not None
    assert own.usage.prompt_tokens == chat.usage.prompt_tokens
    assert own.choices[0].finish_reason == chat.choices[0].finish_reason


def test_several_prompts_get_the_answers_of_single_ones(client: openai.OpenAI, model: str) -> None:
    prompts = ["billing", "quality was", "delivery was bad, case 7"]
    several = client.completions.create(model=model, **ASK | {"prompt": prompts, "n": 2})
    alone = [client.completions.create(model=model, **ASK | {"prompt": prompt}) for prompt in prompts]
    assert [choice.index for choice in several.choices] == list(range(6))
    assert [choice.text for choice in several.choices] == [one.choices[0].text for one in alone for _ in range(2)]
    assert several.usage is not None
    assert several.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone if one.usage)


def test_tokens_are_a_prompt_too(client: openai.OpenAI, model: str, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(ASK["prompt"]).ids
    expected = client.completions.create(model=model, **ASK).choices[0].text
    for prompt in (tokens, [tokens], [tokens, tokens]):
        answer = client.completions.create(model=model, **ASK | {"prompt": prompt})
        assert {choice.text for choice in answer.choices} == {expected}
        assert len(answer.choices) == (2 if len(prompt) == 2 else 1)
    echoed = client.completions.create(model=model, **ASK | {"prompt": tokens, "echo": True})
    assert echoed.choices[0].text == ASK["prompt"] + expected


def test_the_limit_is_16_tokens_unless_said_otherwise(client: openai.OpenAI, base: str, tokenizer: Tokenizer) -> None:
    endless = {str(tokenizer.token_to_id(name)): -100 for name in ("<|im_end|>", "<|endoftext|>")}
    for limit, length in ((None, 16), (3, 3), (0, 0)):
        answer = client.completions.create(model=base, prompt="x", max_tokens=limit, logit_bias=endless)
        assert answer.usage is not None
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (length, "length")


def test_stop_texts_and_seeds(client: openai.OpenAI, base: str) -> None:
    ask: Any = {"model": base, "prompt": "billing", "max_tokens": 24, "seed": 7}
    whole = client.completions.create(**ask).choices[0].text
    assert client.completions.create(**ask).choices[0].text == whole
    assert client.completions.create(**ask | {"seed": 8}).choices[0].text != whole
    stop = whole[3:5]
    for form in (stop, ["not there", stop]):
        cut = client.completions.create(**ask, stop=form).choices[0]
        assert (cut.text, cut.finish_reason) == (whole.split(stop)[0], "stop")


def test_log_probabilities(client: openai.OpenAI, model: str) -> None:
    choice = client.completions.create(model=model, logprobs=3, **ASK).choices[0]
    scores = choice.logprobs
    assert scores is not None
    assert "".join(scores.tokens or []) == choice.text
    for position, (token, logprob, top) in enumerate(
        zip(scores.tokens or [], scores.token_logprobs or [], scores.top_logprobs or [], strict=True)
    ):
        assert top[token] == logprob == max(top.values()) < 0  # temperature 0
        assert len(top) == 3
        assert choice.text[(scores.text_offset or [])[position] :].startswith(token)
    none = client.completions.create(model=model, logprobs=0, **ASK).choices[0].logprobs
    assert none is not None
    assert none.token_logprobs == scores.token_logprobs
    assert [len(top) for top in none.top_logprobs or []] == [1] * len(none.tokens or [])


def test_an_echo_has_the_log_probabilities_of_the_prompt(client: openai.OpenAI, model: str) -> None:
    """Each token's number is what the model gives it as the next token, as if the text before it was the prompt."""
    plain = client.completions.create(model=model, logprobs=5, **ASK).choices[0]
    echoed = client.completions.create(model=model, logprobs=5, echo=True, **ASK).choices[0]
    assert echoed.text == ASK["prompt"] + plain.text
    scores, own = echoed.logprobs, plain.logprobs
    assert scores is not None
    assert own is not None
    assert scores.tokens is not None
    assert "".join(scores.tokens) == echoed.text
    assert scores.token_logprobs is not None
    assert scores.top_logprobs is not None
    assert (scores.token_logprobs[0], scores.top_logprobs[0]) == (None, None)
    assert scores.token_logprobs[-len(own.tokens or []) :] == pytest.approx(own.token_logprobs, abs=0.02)
    for position in (1, 3):
        before = "".join(scores.tokens[:position])
        bias = client.completions.create(model=model, prompt=before, max_tokens=1, logprobs=5, temperature=0)
        top = (bias.choices[0].logprobs or scores).top_logprobs or [{}]
        assert scores.top_logprobs[position] == pytest.approx(
            top[0] | {scores.tokens[position]: scores.token_logprobs[position]}, abs=0.02
        )


def test_a_text_can_be_scored_without_an_answer(client: openai.OpenAI, model: str) -> None:
    """What lm-eval and others compute perplexities with; texts longer than one step of the engine, too."""
    for text in (ASK["prompt"], "billing was bad, case 3. " * 60):
        answer = client.completions.create(model=model, prompt=text, max_tokens=0, echo=True, logprobs=0)
        scores = answer.choices[0].logprobs
        assert answer.choices[0].text == text
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 0
        assert scores is not None
        assert len(scores.token_logprobs or []) == answer.usage.prompt_tokens
        assert all(value < 0 and math.isfinite(value) for value in (scores.token_logprobs or [])[1:])


@pytest.mark.parametrize("more", [{}, {"logprobs": 2}, {"echo": True}, {"n": 2}, {"prompt": ["billing", "quality"]}])
def test_a_stream_has_the_whole_answer(client: openai.OpenAI, model: str, more: dict[str, Any]) -> None:
    ask = ASK | more
    whole = client.completions.create(model=model, **ask)
    chunks = list(client.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **ask))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert [part.finish_reason for part in parts if part.finish_reason] == [choice.finish_reason]
        if choice.logprobs is not None:
            scores = [part.logprobs for part in parts if part.logprobs]
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                assert [value for part in scores for value in getattr(part, name)] == getattr(choice.logprobs, name)


def test_events_end_with_done(server: ServerProcess, base: str) -> None:
    with server.client.completions.with_streaming_response.create(model=base, stream=True, **ASK) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-1])


def test_batches(client: openai.OpenAI, base: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "one": {},
        "two": {"prompt": ["billing", "quality"]},
        "hot": {"temperature": 9},
    }
    bodies |= {"stream": {"stream": True}, "token": {"prompt": [10**6]}}
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": {"model": base} | ASK | body}
        for name, body in bodies.items()
    ]
    file = upload(client, lines, "batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    ended = wait_for(lambda: (now := client.batches.retrieve(batch.id)).status in ("completed", "failed") and now)
    output = lines_of(client, ended.output_file_id)
    assert set(output) == {"one", "two"}
    for name in output:
        answer = checked(Completion, output[name]["response"]["body"])
        direct = client.completions.create(model=base, **ASK | bodies[name])
        assert [choice.text for choice in answer.choices] == [choice.text for choice in direct.choices]
    errors = lines_of(client, ended.error_file_id)
    params = {name: entry["response"]["body"]["error"]["param"] for name, entry in errors.items()}
    assert params == {"hot": "temperature", "stream": "stream", "token": "prompt"}
    assert ended.usage is not None
    assert ended.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": 7}, "prompt", "invalid_type"),
        ({"prompt": ["a", 1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [[]]}, "prompt[0]", "empty_array"),
        ({"prompt": [[1], "a"]}, "prompt[1]", "invalid_type"),
        ({"prompt": [-1]}, "prompt[0]", "integer_below_min_value"),
        ({"prompt": [10**6]}, "prompt", "invalid_value"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt", "array_above_max_length"),
        ({"prompt": "word " * 9000}, "prompt", "context_length_exceeded"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"best_of": 3}, "best_of", "unsupported_parameter"),
        ({"suffix": "the end"}, "suffix", "unsupported_parameter"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"logit_bias": {"999999": 1}}, "logit_bias", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "echo": True, "logprobs": 1}, "echo", "unsupported_parameter"),
        ({"messages": []}, "messages", "unknown_parameter"),
    ],
    ids=str,
)
def test_refusals(client: openai.OpenAI, base: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", body={"model": base} | ASK | body, cast_to=object)
    error = error_of(caught.value.response, 400)
    assert (error["param"], error["code"]) == (param, code)


def test_unknown_models_and_neutral_values(client: openai.OpenAI, base: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="nobody", prompt="x")
    assert caught.value.code == "model_not_found"
    neutral: Any = {"best_of": 1, "suffix": None, "user": "someone", "stop": None, "echo": False, "logprobs": None}
    neutral |= {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": None, "stream": False}
    assert client.completions.create(model=base, prompt="", max_tokens=1, **neutral).choices


NUMBERS = st.one_of(st.none(), st.integers(-2, 200), st.floats(allow_nan=False, allow_infinity=False), st.text())
PROMPTS = st.recursive(st.none() | st.integers(-1, 400) | st.text(max_size=20), lambda part: st.lists(part, max_size=4))


@settings(max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    prompt=PROMPTS,
    more=st.dictionaries(st.sampled_from(["n", "logprobs", "echo", "temperature", "stop", "seed", "suffix"]), NUMBERS),
)
def test_any_request_is_answered_or_refused(server: ServerProcess, base: str, prompt: Any, more: Any) -> None:
    """Whatever is sent: an answer for each prompt, or a refusal in OpenAI's form."""
    body = {"model": base, "max_tokens": 2, "prompt": prompt} | more
    answer = httpx2.post(f"{server.base_url}/completions", json=body, timeout=60)
    if answer.status_code == 200:
        count = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
        assert len(answer.json()["choices"]) == count * (more.get("n") or 1)
    else:
        assert error_of(answer, 400)
