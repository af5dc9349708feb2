"""A new model is loaded before its first request; requests at the same time are answered together."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reviewtune.local_server.chat import model_thread
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.engine.types import ChatMessage, GenerationRequest, GenerationResult
from reviewtune.local_server.models.service import ModelSource
from tests.support.engine_models import one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
HELLO = GenerationRequest((ChatMessage("user", "Hello"),), temperature=0, max_tokens=2)


@pytest.fixture
def loaded(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger=model_thread.__name__)
    return lambda: [record.getMessage() for record in caplog.records if "loading" in record.getMessage()]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelThread]:
    monkeypatch.setattr(model_thread, "LULL", 0.2)
    thread = ModelThread(tmp_path)
    thread.start()
    yield thread
    assert thread.close(30)


def test_an_expected_model_is_loaded_once_before_a_request(
    running: ModelThread, loaded: Callable[[], list[str]]
) -> None:
    source = ModelSource("trained", "tiny", tiny())
    running.expect(source)
    deadline = time.monotonic() + 30
    while not loaded() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert loaded() == ["loading model trained"]
    (answer,) = running.submit(source, [HELLO]).result(30)
    assert isinstance(answer, GenerationResult)
    assert loaded() == ["loading model trained"]


def test_a_missing_expected_model_affects_no_other_request(running: ModelThread, tmp_path: Path) -> None:
    running.expect(ModelSource("deleted", "tiny", tmp_path / "nowhere"))
    time.sleep(0.5)
    (answer,) = running.submit(ModelSource("here", "tiny", tiny()), [HELLO]).result(60)
    assert isinstance(answer, GenerationResult)


def test_a_single_client_never_waits_for_others(running: ModelThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_thread, "GATHER", 60)
    source = ModelSource("here", "tiny", tiny())
    for _ in range(3):
        (answer,) = running.submit(source, [HELLO]).result(30)
        assert isinstance(answer, GenerationResult)


def test_clients_that_ask_repeatedly_are_answered_together(
    running: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_thread, "GATHER", 20)
    sizes, answer_each = [], model_thread.answer_each

    def recording(generator: Any, requests: Sequence[GenerationRequest]) -> list[model_thread.AnswerOrError]:
        sizes.append(len(requests))
        return answer_each(generator, requests)

    monkeypatch.setattr(model_thread, "answer_each", recording)
    source = ModelSource("here", "tiny", tiny())
    first = running.submit(source, [HELLO])
    while not first.running():  # the model is being loaded for it; the others arrive in the meantime
        time.sleep(0.001)
    others = [running.submit(source, [HELLO]) for _ in range(3)]
    first.result(30)
    again = running.submit(source, [HELLO])
    for answers in (*others, again):
        assert isinstance(answers.result(30)[0], GenerationResult)
    assert sizes == [1, 4]
