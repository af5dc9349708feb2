"""Converts conversations to tokens with the chat template of the model's tokenizer.

A conversation is encoded message by message, so the tokens of `messages[:-1]` are a prefix of the tokens of `messages`,
and what many requests share (system message, examples) is computed once. Contents are encoded separately from the
template's own text, without special tokens: a review that contains the text of an end-of-turn token is only text.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

from jinja2 import TemplateError

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.tool_format import PLAIN, as_turn, described, flattened, template_format
from reviewtune.local_server.engine.types import ChatMessage, Function

Tokens = tuple[int, ...]
HISTORIES = 64  # conversations whose tokens are cached
MARK = "\ue000"  # a character of the private use area, which no template contains
Functions = tuple[Function, ...]
PROBE = (ChatMessage("user", "probe"), ChatMessage("assistant", "probe"))


class Turn(NamedTuple):
    """A message's tokens: its content, and the template's text around it."""

    before: Tokens
    content: Tokens
    after: Tokens


class ChatTemplate:
    """A tokenizer's chat template.

    Attributes:
        tokenizer: the tokenizer.
        history: tokens of a tuple of messages, with the functions that the model is shown; cached.
        end_of_turn: the token that every answer ends with.
        tool_format: how the model writes calls of functions: in the template's own format, or in PLAIN.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers ships no types
        self.tokenizer = tokenizer
        self.history = lru_cache(HISTORIES)(self._history)
        self.end_of_turn = self._turn(PROBE, 1).after[0]
        self.tool_format = template_format(self._render, tokenizer.all_special_tokens) or PLAIN

    def prompt(self, messages: Sequence[ChatMessage], functions: Functions = ()) -> tuple[Tokens, Tokens]:
        """The tokens of a prompt.

        Returns:
            The tokens of all turns but the last, and the tokens from there on.
        """
        messages, functions = self._conversation(messages, functions)
        begin = self._generation_prompt(messages, functions)
        last = _turns(messages)[-1]
        rest = sum(self._turn(messages, last.start, functions), ()) + self._encode(begin)
        return self.history(messages[: last.start], functions), rest

    def example(
        self, messages: Sequence[ChatMessage], trained: Sequence[bool], functions: Functions = ()
    ) -> tuple[Tokens, tuple[bool, ...]]:
        """The tokens of a training example.

        Args:
            messages: the conversation.
            trained: per message, whether it is an answer to learn.
            functions: what the model is shown; only for templates with a format for tools.

        Returns:
            All tokens, and per token whether it is learned: contents of trained answers, and the tokens that end them.
        """
        tokens: list[int] = []
        learned: list[bool] = []
        for turn in _turns(messages):
            before, content, after = self._turn(tuple(messages[: turn.stop]), turn.start, functions)
            flags = [False] * len(before) + [trained[turn.start]] * (len(content) + 1) + [False] * len(after)
            tokens += before + content + after
            learned += flags[: len(before + content + after)]
        return tuple(tokens), tuple(learned)

    def text(self, messages: Sequence[ChatMessage]) -> str:
        """The text of a conversation, up to where the answer begins."""
        return self._text(tuple(messages), begin_answer=True)

    def plain(self, text: str) -> Tokens:
        """The tokens of a text, without special tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def raw(self, text: str) -> Tokens:
        """The tokens of a text that is a model's whole input: special tokens in it count as such."""
        tokens = tuple(self.tokenizer(text).input_ids)
        return tokens or (self.tokenizer.bos_token_id or self.tokenizer.eos_token_id,)

    def _conversation(
        self, messages: Sequence[ChatMessage], functions: Functions
    ) -> tuple[tuple[ChatMessage, ...], Functions]:
        """What the template gets: if it knows no tools, all of them as text."""
        if self.tool_format.native:
            return tuple(messages), functions
        return flattened(messages, functions), ()

    def _history(self, messages: tuple[ChatMessage, ...], functions: Functions = ()) -> Tokens:
        turns = (self._turn(messages[: turn.stop], turn.start, functions) for turn in _turns(messages))
        return tuple(token for turn in turns for part in turn for token in part)

    def _turn(self, messages: tuple[ChatMessage, ...], start: int, functions: Functions = ()) -> Turn:
        """The tokens of the last turn in this conversation, which begins at the message `start`."""
        message, earlier = messages[-1], messages[:start]
        text_before = self._text(earlier, functions)
        text = self._text(messages, functions).removeprefix(text_before)
        if message.role == "assistant" and earlier:  # it must begin with the tokens that a prompt for it ends with
            begin = self._generation_prompt(earlier, functions)
            before, rest = begin, text.removeprefix(begin)
            content = message.content if not message.calls else rest.removesuffix(self._end_of_answer(earlier))
            after = rest.removeprefix(content)
            return Turn(self._encode(before), self.plain(content), self._encode(after) or self._end_of_text())
        if message.role == "tool":
            return Turn(self._results(messages, start, text_before, text, functions), (), ())
        content = message.content if message.content in text else message.content.strip()
        marked = self._text((*earlier, ChatMessage(message.role, MARK)), functions).removeprefix(text_before)
        before, _, after = marked.partition(MARK)  # not of the content: `a` is also in the template's `<|im_start|>`
        if before + content + after != text:  # a template that looks at the content
            before, _, after = text.partition(content) if content else (text, "", "")
        return Turn(self._encode(before), self.plain(content), self._encode(after))

    def _results(
        self, messages: tuple[ChatMessage, ...], start: int, text_before: str, text: str, functions: Functions
    ) -> Tokens:
        """The tokens of what tools returned; a template may put several results into one turn."""
        contents = [message.content for message in messages[start:]]
        marked = (*messages[:start], *(ChatMessage("tool", MARK) for _ in contents))
        parts = self._text(marked, functions).removeprefix(text_before).split(MARK)
        if "".join(map("".join, zip_longest(parts, contents, fillvalue=""))) != text:
            raise ProviderError(
                "the model's chat template changes what tools return, so this cannot be separated from it"
            )
        pieces = zip_longest(map(self._encode, parts), map(self.plain, contents), fillvalue=())
        return tuple(token for pair in pieces for piece in pair for token in piece)

    def _end_of_answer(self, earlier: tuple[ChatMessage, ...]) -> str:
        return self._text((*earlier, ChatMessage("assistant", MARK))).partition(MARK)[2]

    def _text(self, messages: tuple[ChatMessage, ...], functions: Functions = (), begin_answer: bool = False) -> str:
        if not messages:
            return ""
        try:
            return self._render([as_turn(message) for message in messages], functions, begin_answer)
        except TemplateError as error:
            raise ProviderError(f"the model's chat template does not accept these messages: {error}") from error

    def _render(self, turns: list[dict[str, Any]], functions: Sequence[Function], begin_answer: bool) -> str:
        tools = [described(function) for function in functions] or None
        return str(
            self.tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=begin_answer)
        )

    def _generation_prompt(self, messages: tuple[ChatMessage, ...], functions: Functions = ()) -> str:
        text = self._text(messages, functions, begin_answer=True)
        return text.removeprefix(self._text(messages, functions))

    def _encode(self, text: str) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _end_of_text(self) -> Tokens:
        return (int(self.tokenizer.eos_token_id),)


def _turns(messages: Sequence[ChatMessage]) -> list[slice]:
    """The messages of each turn: one, or all results of the calls before."""
    follows = [
        number and message.role == messages[number - 1].role == "tool" for number, message in enumerate(messages)
    ]
    starts = [number for number, same_turn in enumerate(follows) if not same_turn]
    return [slice(start, stop) for start, stop in pairwise([*starts, len(messages)])]
