"""Messages are read in one way: what a chat accepts, a training file accepts, with the same text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reviewtune.local_server.chat.requests import ChatRequest
from reviewtune.local_server.schemas.messages import Example

LEARNED = {"role": "assistant", "content": "late"}
TEXTS = st.text(max_size=5)
PARTS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "refusal"]), "text": TEXTS}))
NOTHING: st.SearchStrategy[Any] = st.sampled_from([None, [], {}, "x", 0])
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]), "content": TEXTS | PARTS | NOTHING},
    optional=dict.fromkeys(
        ("name", "refusal", "audio", "annotations", "tool_calls", "function_call", "colour"), NOTHING | TEXTS
    ),
)


@given(MESSAGES)
def test_training_files_accept_exactly_what_chats_accept(message: dict[str, Any]) -> None:
    asked = texts_or_none(ChatRequest, {"model": "x", "messages": [message, LEARNED]})
    learned = texts_or_none(Example, {"messages": [message, LEARNED]})
    assert asked == learned


def texts_or_none(kind: type[ChatRequest] | type[Example], content: object) -> list[str] | None:
    try:
        return [message.text for message in kind.model_validate(content).messages]
    except ValidationError:
        return None


BLANK = ["", " \n\t", "\u00a0\u3000", "\u200b\u200d\ufeff", "\u3164\u115f", [], [{"type": "text", "text": "\u2060"}]]


@pytest.mark.parametrize("content", BLANK)
def test_an_answer_that_shows_nothing_is_not_learned(content: object) -> None:
    answer = {"role": "assistant", "content": content}
    assert "is empty" in str(reason(answer))
    assert "is empty" in str(reason({**LEARNED, "weight": 0}, answer))
    assert reason(answer, LEARNED) is None
    example = Example.model_validate({"messages": [answer, LEARNED]})
    assert [message.is_learned for message in example.messages] == [False, True]


@pytest.mark.parametrize("content", ["0", ".", "👍", "배송", "e\u0301", "\u200d👍"])
def test_any_visible_answer_is_learned(content: str) -> None:
    assert reason({"role": "assistant", "content": content}) is None


def test_what_is_said_of_other_conversations_without_an_answer() -> None:
    assert reason({"role": "user", "content": "x"}) == "there is no assistant message to learn from"
    assert "the weight 0" in str(reason({**LEARNED, "weight": 0}, {**LEARNED, "weight": 0}))
    assert reason({**LEARNED, "weight": 0}, {**LEARNED, "weight": 1}) is None
    assert reason({**LEARNED, "weight": None}) is None


def reason(*messages: dict[str, Any]) -> str | None:
    return Example.model_validate({"messages": list(messages)}).nothing_to_learn
