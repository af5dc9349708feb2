"""The grammar of answers that are calls of functions, or text: in llguidance's form of Lark grammars.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.generation.bounded_schemas import closed
from reviewtune.local_server.engine.generation.constrained_decoding import (
    MAX_ANSWERS,
    answers_of,
)
from reviewtune.local_server.engine.generation.grammars import LIKE_PYTHON, bounded_schema
from reviewtune.local_server.engine.tool_format import ToolFormat
from reviewtune.local_server.engine.types import Function, ToolCall, Tools, UnsupportedSchema

MAX_CALLS = 8  # in one answer: a small model may repeat a call for ever


def all_calls(tools: Tools, form: ToolFormat) -> list[str] | None:
    """All answers that a required single call can have, or None if there are too many or others are possible."""
    if not tools.required or (tools.several and form.between is not None):
        return None
    calls: list[str] = []
    for function in _allowed(tools):
        answers = answers_of(closed(json.loads(function.parameters)))
        if answers is None or len(calls) + len(answers) > MAX_ANSWERS:
            return None
        calls += [form.text(ToolCall(function.name, arguments)) for arguments in answers]
    return calls


def call_grammar(tools: Tools, schema: dict[str, Any] | None, chat: ChatTemplate, vocabulary: LLTokenizer) -> LLMatcher:
    """Compile the grammar of the answers that these tools allow.

    Args:
        tools: the functions.
        schema: what an answer that is not a call must match; None for any text.
        chat: the model's chat template.
        vocabulary: the model's tokens.

    Raises:
        UnsupportedSchema: a schema cannot be compiled; the message gives the reason.
    """
    text = None if schema is None else bounded_schema(schema, vocabulary)
    functions = {function.name: _parameters(function, vocabulary) for function in _allowed(tools)}
    lark = "\n".join(_Rules(tools, chat).lines(functions, text))
    matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(lark))
    if matcher.is_error():
        raise UnsupportedSchema(matcher.get_error())
    return matcher


def _allowed(tools: Tools) -> list[Function]:
    return [function for function in tools.functions if function.name in tools.allowed]


def _parameters(function: Function, vocabulary: LLTokenizer) -> dict[str, Any]:
    try:
        return bounded_schema(json.loads(function.parameters), vocabulary)
    except UnsupportedSchema as error:
        raise UnsupportedSchema(str(error), function.name) from error


class _Rules:
    """The lines of the grammar."""

    def __init__(self, tools: Tools, chat: ChatTemplate) -> None:
        self._tools, self._form = tools, chat.tool_format
        added = {str(token): number for number, token in chat.tokenizer.added_tokens_decoder.items()}
        self._added = {text: number for text, number in added.items() if text}

    def lines(self, functions: dict[str, dict[str, Any]], text: dict[str, Any] | None) -> Iterator[str]:
        """All rules: `start` is the answer, `body` is a call after its trigger."""
        form, trigger = self._form, self._form.trigger
        first = "" if trigger else form.begin[0]  # alone: JSON that is not a call may begin with it, too
        begin = f"{self._literal(first)} {self._literal(form.begin.removeprefix(trigger or first))}"
        end = self._literal(form.end)
        yield f"start: {'' if self._tools.required else 'answer | '}head body {self._more()}"
        yield f"body: {begin} ({self._functions(functions)}) {end}"
        if self._tools.required or text is not None or not trigger or form.after_text is None:
            yield f"head: {self._literal(trigger)}"
        else:  # a token is never a part of text; other triggers end the text as soon as they are there
            yield f"head{'' if trigger in self._added else '[lazy]'}: TEXT {self._literal(trigger)}"
        if not self._tools.required:
            yield "answer: TEXT?" if text is None else f"answer: %json {_json(text)}"
            yield f"TEXT: {self._text()}"

    def _text(self) -> str:
        """The regular expression of text that is not a call."""
        any_text, trigger = "(.|\\n)*", re.escape(self._form.trigger)
        if not trigger:  # only its first character tells a call from text
            return f"/[^{re.escape(self._form.begin[0])}]{any_text}/"
        if self._form.after_text is not None or self._form.trigger in self._added:
            return f"/{any_text}/"
        return f"/{any_text}/ & ~/{any_text}{trigger.replace('/', chr(92) + '/')}{any_text}/"

    def _more(self) -> str:
        form = self._form
        if not self._tools.several or form.between is None:
            return ""
        return f"({self._literal(form.between + form.trigger)} body){{0,{MAX_CALLS - 1}}}"

    def _functions(self, functions: dict[str, dict[str, Any]]) -> str:
        return " | ".join(
            f"{self._literal(name + self._form.middle)} %json {_json(schema)}" for name, schema in functions.items()
        )

    def _literal(self, text: str) -> str:
        """A fixed text; tokens that were added to the vocabulary are no text for the grammar."""
        pattern = "|".join(re.escape(token) for token in sorted(self._added, key=len, reverse=True))
        parts = re.split(f"({pattern})", text) if pattern else [text]
        return (
            " ".join(f"<[{self._added[part]}]>" if part in self._added else json.dumps(part) for part in parts if part)
            or '""'
        )


def _json(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": LIKE_PYTHON})
