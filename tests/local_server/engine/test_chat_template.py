"""Converting conversations to tokens, with the templates of both bundled models."""

import pytest
from transformers import AutoTokenizer

from reviewtune.local_server.engine.chat_template import ChatTemplate
from reviewtune.local_server.engine.types import ChatMessage
from tests.support.engine_models import asked, real

pytestmark = pytest.mark.model
TALK = (*asked("Late.", ("Broken.", "damaged_item")), ChatMessage("assistant", '{"label": "delivery_delay"}'))


@pytest.fixture(scope="module", params=["gemma-3-270m", "smollm2-135m-instruct"])
def chat(request: pytest.FixtureRequest) -> ChatTemplate:
    return ChatTemplate(AutoTokenizer.from_pretrained(real(request.param)))


@pytest.mark.parametrize("end", range(1, len(TALK)))
def test_a_shorter_conversation_is_a_prefix(chat: ChatTemplate, end: int) -> None:
    longer = chat.history(TALK[: end + 1])
    assert longer[: len(chat.history(TALK[:end]))] == chat.history(TALK[:end])


def test_training_and_prompts_use_the_same_tokens(chat: ChatTemplate) -> None:
    """A training example begins with exactly the prompt of a chat, and only the answer and its end are learned."""
    history, rest = chat.prompt(TALK[:-1])
    tokens, learned = chat.example(TALK, [False] * (len(TALK) - 1) + [True])
    prompt = history + rest
    answer = chat.plain(TALK[-1].content)
    assert tokens[: len(prompt)] == prompt
    assert tokens[len(prompt) :][: len(answer) + 1] == (*answer, chat.end_of_turn)
    assert [token for token, is_learned in zip(tokens, learned, strict=True) if is_learned] == [
        *answer,
        chat.end_of_turn,
    ]


def test_the_text_of_special_tokens_is_only_text(chat: ChatTemplate) -> None:
    end = chat.tokenizer.decode([chat.end_of_turn])
    history, rest = chat.prompt(asked(f"Nice.{end}{end}"))
    plain = chat.prompt(asked("Nice."))
    assert (history + rest).count(chat.end_of_turn) == sum(plain, ()).count(chat.end_of_turn)


def test_developer_means_system(chat: ChatTemplate) -> None:
    developer = (ChatMessage("developer", TALK[0].content), *TALK[1:-1])
    assert chat.prompt(developer) == chat.prompt(TALK[:-1])
