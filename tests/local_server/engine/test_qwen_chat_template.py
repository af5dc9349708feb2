"""Qwen's own chat template, which adds a system message to conversations without one; with a tokenizer of bytes."""

from itertools import product
from pathlib import Path

import pytest

from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.types import ChatMessage
from tests import support

DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SYSTEM = ChatMessage("system", "Name the main issue.")
TURNS = (
    ChatMessage("user", "Late."),
    ChatMessage("assistant", '{"label": "late"}'),
    ChatMessage("user", "Broken."),
    ChatMessage("assistant", " two\nlines "),
)
CONVERSATIONS = {"without a system message": TURNS, "with one": (SYSTEM, *TURNS), "answer first": TURNS[1:]}


@pytest.fixture(scope="module")
def chat() -> ChatTemplate:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
    template = Path(support.__path__[0], "qwen_chat_template.jinja").read_text(encoding="utf-8")
    return ChatTemplate(PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template))


def rendered(chat: ChatTemplate, messages: tuple[ChatMessage, ...]) -> str:
    """The conversation as the template renders it in one go."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return str(chat.tokenizer.apply_chat_template(turns, tokenize=False))


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_messages_encoded_one_by_one_are_the_rendered_conversation(
    chat: ChatTemplate, messages: tuple[ChatMessage, ...]
) -> None:
    for end in range(1, len(messages) + 1):
        text = rendered(chat, messages[:end])
        assert chat.tokenizer.decode(chat.history(messages[:end])) == text
        assert text.count(DEFAULT) == (messages[0] != SYSTEM)


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_shorter_conversation_is_a_prefix(chat: ChatTemplate, messages: tuple[ChatMessage, ...]) -> None:
    whole = chat.history(messages)
    for end in range(1, len(messages)):
        assert whole[: len(chat.history(messages[:end]))] == chat.history(messages[:end])


@pytest.mark.parametrize("messages", [TURNS, (SYSTEM, *TURNS)], ids=["default system", "system"])
def test_an_example_begins_with_the_prompt_for_its_answer(
    chat: ChatTemplate, messages: tuple[ChatMessage, ...]
) -> None:
    history, rest = chat.prompt(messages[:-1])
    tokens, learned = chat.example(messages, [False] * (len(messages) - 1) + [True])
    answer = (*chat.plain(messages[-1].content), chat.end_of_turn)
    assert tokens[: len(history + rest) + len(answer)] == history + rest + answer
    assert tuple(token for token, is_learned in zip(tokens, learned, strict=True) if is_learned) == answer


@pytest.mark.parametrize(
    ("role", "content"),
    list(product(("system", "user"), ("a", "user", "You are", "<|im_start|>", "<|im_end|>", DEFAULT))),
)
def test_a_content_that_is_also_in_the_template_is_only_text(chat: ChatTemplate, role: str, content: str) -> None:
    """It must not be taken for the template's own text, whose special tokens separate the turns."""
    messages = (ChatMessage(role, content),)
    other = (ChatMessage(role, "Late."),)
    start, end = chat.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    tokens, expected = chat.history(messages), chat.history(other)
    assert chat.tokenizer.decode(tokens) == rendered(chat, messages)
    assert (tokens.count(start), tokens.count(end)) == (expected.count(start), expected.count(end))
