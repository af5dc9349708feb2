"""Chat files: OpenAI's rules, line by line; token counts and prices checked against published numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.chat.chat_files import as_utf8, check, count_tokens, lines_of, read_lines, write_lines
from reviewtune.data.prompts import Message, Prompt
from reviewtune.data_check.labelled_file import read
from reviewtune.errors import DataError
from reviewtune.finetuning.cost import cost_estimate
from reviewtune.providers.pricing import Usage, inference_cost, per_thousand, training_cost

Change = Callable[[list[dict[str, Any]]], object]


@pytest.fixture
def prompt(config: Config) -> Prompt:
    return Prompt.of(config)


def reviews(n: int) -> pd.DataFrame:
    labels = ["delivery_delay", "damaged_item"]
    return pd.DataFrame(
        {"text": [f"review {i}, \u201equoted\u201d \uc548\ub155" for i in range(n)], "label": (labels * n)[:n]}
    )


def test_written_lines_pass_the_check_and_are_read_back(tmp_path: Path, prompt: Prompt) -> None:
    path = tmp_path / "training_data.jsonl"
    lines = lines_of(reviews(12), prompt)
    write_lines(path, lines)
    assert read_lines(path) == lines
    checked = check(path, prompt)
    assert checked.examples == 12
    assert checked.tokens == sum(count_tokens(line["messages"]) for line in lines)
    assert [warning.split(":")[0] for warning in checked.warnings] == ["training_data.jsonl"] * 2


def test_ten_examples_are_needed(tmp_path: Path, prompt: Prompt) -> None:
    path = tmp_path / "training_data.jsonl"
    write_lines(path, lines_of(reviews(9), prompt))
    with pytest.raises(DataError, match=r"9 example.*at least 10"):
        check(path, prompt)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: m[0].update(role="narrator"), "role must be one of"),
        (lambda m: m.pop(), "last message must be the assistant's, it is user"),
        (lambda m: m[-1].update(content="delivery_delay"), "does not name a label"),
        (lambda m: m[1].update(content=" "), "user message has no text"),
        (lambda m: m.pop(1), "no user message"),
        (lambda m: m.clear(), "last message must be the assistant's, it is missing"),
        (lambda m: m[1].update(content="word " * 70_000), "at most 65536"),
    ],
)
def test_a_line_that_breaks_a_rule_is_named(tmp_path: Path, prompt: Prompt, change: Change, fault: str) -> None:
    path = tmp_path / "training_data.jsonl"
    lines = [json.loads(json.dumps(line)) for line in lines_of(reviews(12), prompt)]
    change(lines[6]["messages"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=rf"training_data.jsonl line 7: .*{fault}"):
        check(path, prompt)


def test_empty_lines_are_skipped_and_counted(tmp_path: Path, prompt: Prompt) -> None:
    path = tmp_path / "training_data.jsonl"
    lines = [json.dumps(line) for line in lines_of(reviews(12), prompt)]
    path.write_text("\n\n".join(lines[:2]) + "\n" + lines[2].replace("assistant", "narrator") + "\n")
    with pytest.raises(DataError, match=r"line 4: a message's role .*; fix it, or run `dvc repro format`"):
        check(path, prompt)


@pytest.mark.parametrize("text", ["{", "[]", '{"messages": 1}', "hello"])
def test_a_line_that_is_not_a_chat(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text + "\n")
    with pytest.raises(DataError, match="line 1: "):
        read_lines(tmp_path / "x.jsonl")


def test_tokens_are_counted_as_in_openais_cookbook() -> None:
    """The worked example of How_to_count_tokens_with_tiktoken.ipynb, section 6, whose output for gpt-4o-mini is:
    124 prompt tokens counted by num_tokens_from_messages(), 124 prompt tokens counted by the OpenAI API.

    There, four messages have a name, which ours never have: it costs one token and those of the name itself.
    """
    system = (
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        "New synergies will help drive top-line growth.",
        "Things working well together will increase revenue.",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        "Let's talk later when we're less busy about how to do better.",
    )
    user = "This late pivot means we don't have time to boil the ocean for the client deliverable."
    messages = [*(Message(role="system", content=text) for text in system), Message(role="user", content=user)]
    named = [count_tokens([Message(role="user", content=name)]) for name in ("example_user", "example_assistant")]
    names = [1 + tokens - count_tokens([Message(role="user", content="")]) for tokens in named]
    assert count_tokens(messages) + 2 * sum(names) == 124


def test_training_costs_what_the_price_list_gives(config: Config) -> None:
    """gpt-4o-mini: 3 USD per million trained tokens; base 0.15 in, 0.60 out; fine-tuned twice that."""
    row = config.prices.models["gpt-4o-mini-2024-07-18"]
    assert training_cost(1_000_000, row) == 3.0
    assert inference_cost(Usage(1_000_000, 0, 0), row, "base") == 0.15
    assert inference_cost(Usage(1_000_000, 1_000_000, 1_000_000), row, "base") == pytest.approx(0.675)
    assert inference_cost(Usage(1_000_000, 0, 1_000_000), row, "finetuned") == pytest.approx(1.5)


def test_cost_per_thousand_of_the_usual_guide(config: Config) -> None:
    """213.6 prompt and 2 answer tokens per review: 0.033 USD per 1,000 with the base model, 0.066 fine-tuned."""
    usage = Usage(2136 * 100, 0, 20 * 100)
    book, name = config.prices, "gpt-4o-mini-2024-07-18"
    assert per_thousand(usage, 1000, book, name, "base") == pytest.approx(0.033, abs=0.001)
    assert per_thousand(usage, 1000, book, name, "finetuned") == pytest.approx(0.066, abs=0.001)
    assert per_thousand(usage, 1000, book, None, "base") == 0.0


def test_the_estimate_prices_every_model_of_the_price_list(tmp_path: Path, prompt: Prompt, config: Config) -> None:
    path = tmp_path / "training_data.jsonl"
    write_lines(path, lines_of(reviews(20), prompt))
    checked = check(path, prompt)
    estimate = cost_estimate(checked, checked, config.prices)
    assert set(estimate["usd_per_epoch"]) == set(config.prices.models)
    assert estimate["usd_per_epoch"]["gpt-4o-mini-2024-07-18"] == pytest.approx(checked.tokens * 3 / 1e6, abs=1e-6)


def example(**assistant: object) -> dict[str, Any]:
    question = {"role": "user", "content": [{"type": "text", "text": "still "}, {"type": "text", "text": "no parcel"}]}
    return {"messages": [question, {"role": "assistant", "content": "late", **assistant}], "parallel_tool_calls": False}


def faults_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        check(path, None)
    return str(caught.value)


def test_content_in_parts_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([json.dumps(example(refusal=None, tool_calls=None, name="bot"))] * 10))
    assert check(path, None).examples == 10
    assert read_lines(path)[0]["messages"][0]["content"] == "still no parcel"


@pytest.mark.parametrize(
    ("assistant", "fault"),
    [
        ({"content": None}, "an assistant message has no text"),
        ({"content": [{"type": "image_url"}]}, "an assistant message has a part that is not text"),
        ({"content": "\ud800"}, "half of a surrogate pair"),
        ({"weight": 0}, "no assistant message to learn from: every one has the weight 0"),
    ],
)
def test_a_message_that_cannot_be_trained_is_explained(
    tmp_path: Path, assistant: dict[str, object], fault: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(["", json.dumps(example()), " \r", json.dumps(example(**assistant)), ""]))
    assert fault in faults_of(path)
    assert "line 4: " in faults_of(path)
    file_faults = read(path, None).faults
    assert [(fault_.line, fault in fault_.message) for fault_ in file_faults] == [(4, True)]  # check-data says the same


def test_all_faulty_lines_are_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(["{", json.dumps(example(content="")), "", json.dumps(example(weight=0))]))
    with pytest.raises(DataError, match=r"x.jsonl line 1: not valid JSON.*2 more such rows: line 2, 4") as caught:
        check(path, None)
    assert [line.split()[0] for line in caught.value.details.splitlines()] == ["line", "1", "2", "4"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_is_uploaded_is_utf8_without_a_mark(tmp_path: Path, encoding: str) -> None:
    path, text = tmp_path / "x.jsonl", json.dumps(example(), ensure_ascii=False) + "\n"
    path.write_bytes(text.encode(encoding))
    copy = as_utf8(path, tmp_path / "copies")
    assert (copy.name, copy.read_bytes()) == (path.name, text.encode())
    assert check(path, None, least=1).examples == 1
    path.write_text(text)
    assert as_utf8(path, tmp_path / "copies") == path


@pytest.mark.parametrize("content", [b"PK\x03\x04\xe9", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_spreadsheet_is_not_a_chat_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert "a text file is needed here" in faults_of(path)
    with pytest.raises(DataError, match="a text file is needed here"):
        read(path, None)


def test_tokens_of_a_text_of_any_length_are_counted() -> None:
    """The library refuses texts of a million characters."""
    short, long = (count_tokens([Message(role="user", content="late " * n)]) for n in (1_000, 500_000))
    assert short < 1_100
    assert 500_000 <= long < 500_100


CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "label", "arguments": '{"issue": "late"}'}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "label", "parameters": {"type": "object"}}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}
USER, CALLS = {"role": "user", "content": "no parcel"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}
OLDER = {"role": "assistant", "content": None, "function_call": CALL["function"]}
GOOD: list[dict[str, Any]] = [
    {"messages": [USER, CALLS], "tools": [TOOL], "parallel_tool_calls": False},
    {"messages": [USER, CALLS, RESULT, {"role": "assistant", "content": "late"}], "tools": [TOOL]},
    {"messages": [USER, OLDER], "functions": [TOOL["function"]]},
    {"messages": [USER, OLDER, {"role": "function", "name": "label", "content": "x"}, example()["messages"][1]]},
]


def test_examples_that_call_functions_pass_if_no_label_is_asked_for(tmp_path: Path, prompt: Prompt) -> None:
    """The pipeline and check-data want labels; `jobs create` sends what the provider can teach."""
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in GOOD * 3))
    checked = check(path, None)
    assert checked.examples == 12
    assert checked.tokens > sum(count_tokens(line["messages"]) for line in read_lines(path)) > 12 * 15
    for checks in (lambda: check(path, prompt), lambda: read(path, None)):
        with pytest.raises(DataError, match=r"line 1: .*tool calls cannot be trained here"):
            checks()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"messages": [USER, CALLS | {"tool_calls": [{"id": "1"}]}]}, "a tool call needs an id and the type"),
        ({"messages": [USER, CALLS | {"tool_calls": "x"}]}, "tool_calls must be a list"),
        ({"messages": [USER, CALLS | {"tool_calls": [CALL | {"function": {}}]}]}, "needs the name of a function"),
        (
            {"messages": [USER, OLDER | {"function_call": {"name": "label", "arguments": "late"}}]},
            "the arguments of a call of label must be a JSON object as text",
        ),
        ({"messages": [USER | {"tool_calls": [CALL]}, CALLS]}, "only an assistant calls functions"),
        ({"messages": [USER, RESULT, CALLS]}, "answers the call 'c1', which is not open before it"),
        ({"messages": [USER, CALLS, USER, CALLS]}, "the call 'c1' has no tool message with its result"),
        ({"messages": [USER, CALLS | {"content": 7}]}, "a content that is not text"),
        ({"messages": [USER, CALLS], "tools": [{"type": "custom"}]}, r"tools\[0\] must have the type 'function'"),
        ({"messages": [USER, CALLS], "tools": [{"type": "function"}]}, r"tools\[0\]: a function needs a name"),
        (
            {"messages": [USER, CALLS], "functions": [{"name": "f", "parameters": 1}]},
            "parameters must be a JSON schema",
        ),
        ({"messages": [USER, CALLS], "tools": {"a": 1}}, "tools must be a list"),
    ],
    ids=str,
)
def test_functions_in_another_form_are_explained(tmp_path: Path, line: dict[str, Any], fault: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([json.dumps(GOOD[0]), json.dumps(line)]))
    with pytest.raises(DataError, match=f"line 2: .*{fault}"):
        check(path, None)
