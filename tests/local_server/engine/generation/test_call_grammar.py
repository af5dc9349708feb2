"""Which answers are possible with functions: in a template's own format, and in the one for other templates."""

import json
from typing import Any

import pytest
from llguidance.hf import from_tokenizer

from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.generation.call_grammar import all_calls, call_grammar
from reviewtune.local_server.engine.generation.call_reader import CallReader
from reviewtune.local_server.engine.tool_format import PLAIN
from reviewtune.local_server.engine.types import Function, ToolCall, Tools, UnsupportedSchema
from tests.support.serving import TEMPLATE
from tests.support.tool_templates import LLAMA, QWEN, chat_of

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["late", "fine"]}, "note": {"type": "string"}},
    "required": ["label"],
}
FUNCTIONS = (
    Function("report", "Report an issue.", json.dumps(SCHEMA)),
    Function("stop", None, json.dumps({"type": "object", "properties": {}})),
)
BOTH = ("report", "stop")
REPORT = ToolCall("report", '{"label": "late", "note": "x</tool_call>"}')
STOP = ToolCall("stop", "{}")


@pytest.fixture(scope="module", params=[QWEN, LLAMA, TEMPLATE], ids=["qwen", "llama", "none"])
def chat(request: pytest.FixtureRequest) -> ChatTemplate:
    return chat_of(request.param)


def accepts(chat: ChatTemplate, tools: Tools, text: str, schema: dict[str, Any] | None = None) -> bool:
    """Whether the grammar accepts exactly this answer."""
    vocabulary = from_tokenizer(chat.tokenizer, len(chat.tokenizer), chat.end_of_turn)
    matcher = call_grammar(tools, schema, chat, vocabulary)
    for token in chat.plain(text):
        if not matcher.validate_tokens([token]):
            return False
        matcher.consume_token(token)
    return bool(matcher.is_accepting())


def test_the_format_is_found_in_the_template() -> None:
    qwen, llama = chat_of(QWEN).tool_format, chat_of(LLAMA).tool_format
    assert (qwen.begin, qwen.middle) == ('<tool_call>\n{"name": "', '", "arguments": ')
    assert (qwen.end, qwen.between, qwen.after_text, qwen.trigger) == ("}\n</tool_call>", "\n", "\n", "<tool_call>")
    assert (llama.begin, llama.middle) == ('{"name": "', '", "parameters": ')
    assert (llama.end, llama.between, llama.after_text, llama.trigger) == ("}", None, None, "")
    assert chat_of(TEMPLATE).tool_format is PLAIN


def test_text_or_calls(chat: ChatTemplate) -> None:
    form, tools = chat.tool_format, Tools(FUNCTIONS, BOTH)
    for text in ("", "Hello.\n", "a <tool", form.text(STOP), form.text(ToolCall("report", '{"label": "fine"}'))):
        assert accepts(chat, tools, text)
    for text in (form.text(ToolCall("other", "{}")), form.text(STOP)[:-1], form.text(ToolCall("report", "{}"))):
        assert not accepts(chat, tools, text)
    two = f"{form.text(STOP)}{form.between or ''}{form.text(STOP)}"
    assert accepts(chat, tools, two) == (form.between is not None)
    assert not accepts(chat, Tools(FUNCTIONS, BOTH, several=False), two)
    assert accepts(chat, tools, f"So:{form.after_text or ''}{form.text(STOP)}") == (
        form.after_text is not None or not form.trigger
    )


def test_required_calls_and_allowed_functions(chat: ChatTemplate) -> None:
    form, tools = chat.tool_format, Tools(FUNCTIONS, ("report",), required=True, several=False)
    assert accepts(chat, tools, form.text(ToolCall("report", '{"label": "fine", "note": "a"}')))
    for text in ("", "Hello.", form.text(STOP)):
        assert not accepts(chat, tools, text)
    extra = form.text(ToolCall("report", '{"label": "fine", "more": 1}'))
    assert not accepts(chat, tools, extra)  # a property that the schema does not name


def test_text_in_a_given_form_or_calls(chat: ChatTemplate) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tools = Tools(FUNCTIONS, BOTH)
    assert accepts(chat, tools, '{"a": true}', schema)
    assert accepts(chat, tools, chat.tool_format.text(STOP), schema)
    assert not accepts(chat, tools, "Hello.", schema)


def test_all_answers_of_a_single_call_are_listed_if_they_are_few(chat: ChatTemplate) -> None:
    form = chat.tool_format
    label = json.dumps({"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]})
    functions = (Function("f", None, label), FUNCTIONS[1])
    listed = all_calls(Tools(functions, ("f", "stop"), required=True, several=False), form)
    calls = [ToolCall("f", '{"label": "a"}'), ToolCall("f", '{"label": "b"}'), STOP]
    assert listed == [form.text(call) for call in calls]
    assert all_calls(Tools(functions, ("f",)), form) is None  # text is possible, too
    assert all_calls(Tools(FUNCTIONS, BOTH, required=True, several=False), form) is None


def test_a_schema_that_makes_no_sense_names_its_function(chat: ChatTemplate) -> None:
    functions = (Function("broken", None, json.dumps({"type": "strnig"})),)
    with pytest.raises(UnsupportedSchema) as caught:
        accepts(chat, Tools(functions, ("broken",)), "")
    assert caught.value.function == "broken"


def test_an_answer_is_read_the_same_in_parts(chat: ChatTemplate) -> None:
    """While it is written only what stays is reported, so that its parts add up to the answer."""
    form, reader = chat.tool_format, CallReader(chat.tool_format)
    for calls in ((), (REPORT,), (STOP, REPORT)[: 1 if form.between is None else 2]):
        text = "So\n\n<tool" if form.after_text is not None or not calls else ""
        glue = (form.after_text or "") if text else ""
        answer = text + (glue + (form.between or "").join(map(form.text, calls)) if calls else "")
        assert reader.complete(answer) == (text, calls)
        seen = [reader.so_far(answer[:end]) for end in range(len(answer) + 1)]
        for now, so_far in seen:
            assert text.startswith(now)
            assert all(
                call.name == part.name and call.arguments.startswith(part.arguments)
                for call, part in zip(calls, so_far, strict=False)
            )


def test_a_call_that_was_cut_off_keeps_what_is_there(chat: ChatTemplate) -> None:
    form, reader = chat.tool_format, CallReader(chat.tool_format)
    text = form.text(REPORT)
    assert reader.complete(text[: text.index("late") + 2])[1] == (ToolCall("report", '{"label": "la'),)
    assert reader.complete(form.begin + "rep")[1] == ()
