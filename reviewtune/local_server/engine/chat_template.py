"""Converts conversations to tokens with the chat template of the model's tokenizer.

A conversation is encoded message by message, so the tokens of `messages[:-1]` are a prefix of the tokens of `messages`,
and what many requests share (system message, examples) is computed once. Contents are encoded separately from the
template's own text, without special tokens: a review that contains the text of an end-of-turn token is only text.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import TemplateError

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.types import ChatMessage

Tokens = tuple[int, ...]
HISTORIES = 64  # conversations whose tokens are cached
MARK = "\ue000"  # a character of the private use area, which no template contains
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
        history: tokens of a tuple of messages, cached.
        end_of_turn: the token that every answer ends with.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers ships no types
        self.tokenizer = tokenizer
        self.history = lru_cache(HISTORIES)(self._history)
        self.end_of_turn = self._turn(PROBE).after[0]

    def prompt(self, messages: Sequence[ChatMessage]) -> tuple[Tokens, Tokens]:
        """The tokens of a prompt.

        Returns:
            The tokens of all messages but the last, and the tokens from there on.
        """
        messages = tuple(messages)
        begin = self._generation_prompt(messages)
        return self.history(messages[:-1]), sum(self._turn(messages), ()) + self._encode(begin)

    def example(self, messages: Sequence[ChatMessage], trained: Sequence[bool]) -> tuple[Tokens, tuple[bool, ...]]:
        """The tokens of a training example.

        Args:
            messages: the conversation.
            trained: per message, whether it is an answer to learn.

        Returns:
            All tokens, and per token whether it is learned: contents of trained answers, and the tokens that end them.
        """
        tokens: list[int] = []
        learned: list[bool] = []
        for index, is_trained in enumerate(trained, start=1):
            before, content, after = self._turn(tuple(messages[:index]))
            flags = [False] * len(before) + [is_trained] * (len(content) + 1) + [False] * len(after)
            tokens += before + content + after
            learned += flags[: len(before + content + after)]
        return tuple(tokens), tuple(learned)

    def text(self, messages: Sequence[ChatMessage]) -> str:
        """The text of a conversation, up to where the answer begins."""
        return self._text(tuple(messages), begin_answer=True)

    def plain(self, text: str) -> Tokens:
        """The tokens of a text, without special tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _history(self, messages: tuple[ChatMessage, ...]) -> Tokens:
        return tuple(
            token for end in range(1, len(messages) + 1) for part in self._turn(messages[:end]) for token in part
        )

    def _turn(self, messages: tuple[ChatMessage, ...]) -> Turn:
        """The tokens of the last message in this conversation."""
        message, earlier = messages[-1], messages[:-1]
        text_before = self._text(earlier)
        text = self._text(messages).removeprefix(text_before)
        if message.role == "assistant" and earlier:  # it must begin with the tokens that a prompt for it ends with
            begin = self._generation_prompt(earlier)
            before, rest = begin, text.removeprefix(begin)
            content, after = message.content, rest.removeprefix(message.content)
            return Turn(self._encode(before), self.plain(content), self._encode(after) or self._end_of_text())
        content = message.content if message.content in text else message.content.strip()
        marked = self._text((*earlier, ChatMessage(message.role, MARK))).removeprefix(text_before)
        before, _, after = marked.partition(MARK)  # not of the content: `a` is also in the template's `<|im_start|>`
        if before + content + after != text:  # a template that looks at the content
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
            raise ProviderError(f"the model's chat template does not accept these messages: {error}") from error
        return str(text)

    def _generation_prompt(self, messages: tuple[ChatMessage, ...]) -> str:
        return self._text(messages, begin_answer=True).removeprefix(self._text(messages))

    def _encode(self, text: str) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _end_of_text(self) -> Tokens:
        return (int(self.tokenizer.eos_token_id),)
