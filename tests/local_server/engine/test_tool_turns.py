"""Calls and their results in tokens: prompts, training examples, and templates that know no tools."""

import json
from pathlib import Path
from typing import Any

import pytest

from reviewtune.errors import DataError
from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.conversation import chat_message, functions_of
from reviewtune.local_server.engine.tool_format import as_turn, described
from reviewtune.local_server.engine.training.packing import read_examples
from reviewtune.local_server.engine.types import ChatMessage, Function, ToolCall
from reviewtune.local_server.schemas.messages import Example
from tests.support.serving import TEMPLATE
from tests.support.tool_templates import LLAMA, QWEN, chat_of

FUNCTIONS = (Function("report", "Report an issue.", json.dumps({"type": "object", "properties": {}})),)
CALL = ToolCall("report", '{"label": "späť"}')
TALK = (
    ChatMessage("system", "Name the issue."),
    ChatMessage("user", "Late."),
    ChatMessage("assistant", "", (CALL, CALL)),
    ChatMessage("tool", "a <|im_end|>"),
    ChatMessage("tool", "b"),
    ChatMessage("assistant", "So:", (CALL,)),
    ChatMessage("tool", "c"),
    ChatMessage("assistant", "Done."),
)


@pytest.fixture(scope="module")
def qwen() -> ChatTemplate:
    return chat_of(QWEN)


def rendered(chat: ChatTemplate, messages: tuple[ChatMessage, ...], *, begin: bool = False) -> str:
    """The conversation as the template renders it in one go."""
    turns = [as_turn(message) for message in messages]
    tools = [described(function) for function in FUNCTIONS]
    return str(chat.tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=begin))


@pytest.mark.parametrize("messages", [TALK, TALK[1:]], ids=["with a system message", "without"])
def test_a_prompt_is_the_rendered_conversation(qwen: ChatTemplate, messages: tuple[ChatMessage, ...]) -> None:
    for end in (1, 2, 5, 7, 8):
        history, rest = qwen.prompt(messages[:end], FUNCTIONS)
        assert qwen.tokenizer.decode(history + rest) == rendered(qwen, messages[:end], begin=True)


def test_what_a_tool_returns_is_only_text(qwen: ChatTemplate) -> None:
    end = qwen.end_of_turn
    with_token, without = (
        sum(qwen.prompt((*TALK[:3], ChatMessage("tool", text)), FUNCTIONS), ()) for text in ("a <|im_end|>", "a")
    )
    assert with_token.count(end) == without.count(end)


def test_an_example_teaches_calls_as_they_are_written(qwen: ChatTemplate) -> None:
    trained = [message.role == "assistant" for message in TALK]
    tokens, learned = qwen.example(TALK, trained, FUNCTIONS)
    assert qwen.tokenizer.decode(tokens) == rendered(qwen, TALK)
    text = qwen.tokenizer.decode([token for token, flag in zip(tokens, learned, strict=True) if flag])
    call = qwen.tool_format.text(CALL)
    assert text == f"{call}\n{call}<|im_end|>So:\n{call}<|im_end|>Done.<|im_end|>"
    prompt = sum(qwen.prompt(TALK[:2], FUNCTIONS), ())
    assert tokens[: len(prompt)] == prompt


LINE: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Late."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "report", "arguments": '{"label":"late"}'}}
            ],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "report", "parameters": {"type": "object"}}}],
}
LEGACY: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Late."},
        {"role": "assistant", "content": None, "function_call": {"name": "report", "arguments": '{"label": "late"}'}},
    ],
    "functions": [{"name": "report", "parameters": {"type": "object"}}],
}


@pytest.mark.parametrize("template", [QWEN, LLAMA], ids=["qwen", "llama"])
def test_files_with_tools_are_read_where_the_template_knows_them(tmp_path: Path, template: str) -> None:
    chat = chat_of(template)
    file = tmp_path / "a.jsonl"
    file.write_text(f"{json.dumps(LINE)}\n{json.dumps(LEGACY)}\n")
    examples = read_examples(file, chat, 9999)
    assert examples[0] == examples[1]  # the older form says the same
    learned = [token for token, flag in zip(*examples[0], strict=True) if flag]
    call = chat.tool_format.text(ToolCall("report", '{"label": "late"}'))
    assert chat.tokenizer.decode(learned) == f"{call}<|im_end|>"


@pytest.mark.parametrize("field", ["tools", "tool_calls", "functions"])
def test_other_templates_refuse_them_by_name(tmp_path: Path, field: str) -> None:
    line = LEGACY if field == "functions" else {key: value for key, value in LINE.items() if key in ("messages", field)}
    file = tmp_path / "a.jsonl"
    file.write_text(f"{json.dumps(line)}\n")
    with pytest.raises(
        DataError, match=f"a.jsonl line 1: '{field}': the chat template of this base model has no format"
    ):
        read_examples(file, chat_of(TEMPLATE), 9999)


def test_a_template_without_tools_gets_them_as_text() -> None:
    chat = chat_of(TEMPLATE)
    text = chat.tokenizer.decode(sum(chat.prompt(TALK, FUNCTIONS), ()))
    assert text.startswith("<|im_start|>system\nName the issue.\n\n# Functions")
    assert '"name": "report"' in text
    assert f"So:\n{chat.tool_format.text(CALL)}<|im_end|>" in text
    assert (
        "<|im_start|>user\n<tool_response>\na <|im_end|>\n</tool_response>\n<tool_response>\nb\n</tool_response>"
        in text
    )
    example = Example.model_validate(LINE)
    messages = [chat_message(message) for message in example.messages]
    assert "<|im_start|>system\n# Functions" in chat.tokenizer.decode(
        sum(chat.prompt(messages[:1], functions_of(example.definitions)), ())
    )
