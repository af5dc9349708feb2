"""Conversations as tokens, by the chat template of the model's tokenizer.

A conversation is encoded turn by turn, so the tokens of `messages[:-1]` are a prefix of the tokens of `messages`: what
many requests share (system message, examples) is computed once. Contents are encoded apart from the template's own
text, with special tokens switched off: a review that spells out an end-of-turn token is still only text.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import TemplateError

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.types import ChatMessage

Tokens = tuple[int, ...]
HISTORIES = 64  # conversations whose tokens are remembered
PROBE = (ChatMessage("user", "probe"), ChatMessage("assistant", "probe"))


class Turn(NamedTuple):
    before: Tokens
    content: Tokens
    after: Tokens


class ChatTemplate:
    """One tokenizer's template. `end_of_turn` is the token that every answer ends with."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers ships no types
        self.tokenizer = tokenizer
        self.history = lru_cache(HISTORIES)(self._history)
        self.end_of_turn = self._turn(PROBE).after[0]

    def prompt(self, messages: Sequence[ChatMessage]) -> tuple[Tokens, Tokens]:
        """What the model is asked: the tokens of all messages but the last, and those from there on."""
        messages = tuple(messages)
        begin = self._generation_prompt(messages)
        return self.history(messages[:-1]), sum(self._turn(messages), ()) + self._encode(begin)

    def example(self, messages: Sequence[ChatMessage], trained: Sequence[bool]) -> tuple[Tokens, tuple[bool, ...]]:
        """What the model is taught: all tokens, and which of them are to be learned: trained answers and their ends."""
        tokens: list[int] = []
        learned: list[bool] = []
        for index, wanted in enumerate(trained, start=1):
            before, content, after = self._turn(tuple(messages[:index]))
            flags = [False] * len(before) + [wanted] * (len(content) + 1) + [False] * len(after)
            tokens += before + content + after
            learned += flags[: len(before + content + after)]
        return tuple(tokens), tuple(learned)

    def plain(self, text: str) -> Tokens:
        """A content's tokens; none of them is special."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _history(self, messages: tuple[ChatMessage, ...]) -> Tokens:
        return tuple(
            token for end in range(1, len(messages) + 1) for part in self._turn(messages[:end]) for token in part
        )

    def _turn(self, messages: tuple[ChatMessage, ...]) -> Turn:
        """The last message's tokens in this conversation."""
        message = messages[-1]
        text = self._text(messages).removeprefix(self._text(messages[:-1]))
        if message.role == "assistant":  # it must begin as it is asked for
            begin = self._generation_prompt(messages[:-1])
            before, rest = begin, text.removeprefix(begin)
            content, after = message.content, rest.removeprefix(message.content)
            return Turn(self._encode(before), self.plain(content), self._encode(after) or self._end_of_text())
        content = message.content if message.content in text else message.content.strip()
        before, _, after = text.partition(content) if content else (text, "", "")
        return Turn(self._encode(before), self.plain(content), self._encode(after))

    def _text(self, messages: tuple[ChatMessage, ...], begin_answer: bool = False) -> str:
        if not messages:
            return ""
        turns = [
            {"role": "system" if message.role == "developer" else message.role, "content": message.content}
            for message in messages
        ]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin_answer)
        except TemplateError as error:
            raise ProviderError(f"the model's chat template refuses these messages: {error}") from error
        return str(text)

    def _generation_prompt(self, messages: tuple[ChatMessage, ...]) -> str:
        return self._text(messages, begin_answer=True).removeprefix(self._text(messages))

    def _encode(self, text: str) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _end_of_text(self) -> Tokens:
        return (int(self.tokenizer.eos_token_id),)
