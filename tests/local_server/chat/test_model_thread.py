"""A new model is loaded before its first request; requests are answered together, and none waits for long."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path

import pytest

from reviewtune.local_server.chat import model_memory, model_thread
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.served_model import AnswerOrError, Lane, ServedModel
from reviewtune.local_server.engine.generation.running_rows import RunningRows
from reviewtune.local_server.engine.types import ChatMessage, GenerationRequest, GenerationResult, Progress
from reviewtune.local_server.models.service import ModelSource
from tests.support.engine_models import one_thread, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
HELLO = GenerationRequest((ChatMessage("user", "Hello"),), temperature=0, max_tokens=2)


@pytest.fixture
def loaded(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger=model_memory.__name__)
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
    sizes, step = [], RunningRows.step

    def recording(rows: RunningRows, tokens: int) -> None:
        sizes.append(len(rows.answers))
        step(rows, tokens)

    monkeypatch.setattr(RunningRows, "step", recording)
    source = ModelSource("here", "tiny", tiny())
    for _ in range(2):
        for answers in [running.submit(source, [HELLO]) for _ in range(4)]:
            assert isinstance(answers.result(30)[0], GenerationResult)
    assert set(sizes[-2:]) == {4}, "the second time the first of the four waited for the others"


LONG = GenerationRequest((ChatMessage("user", "Hello"),), temperature=0, max_tokens=400, logit_bias={2: -100})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[ModelSource]:
    """The model of every step, in order."""
    done: list[ModelSource] = []
    step = ServedModel.step

    def recording(model: ServedModel, lane: Lane) -> int:
        done.append(model.source)
        return step(model, lane)

    monkeypatch.setattr(ServedModel, "step", recording)
    return done


def begun(running: ModelThread, source: ModelSource, *, bulk: bool = False) -> Future[list[AnswerOrError]]:
    """A long answer of which some text is written."""
    writing = threading.Event()

    def listen(progress: Progress) -> None:
        if progress.text:
            writing.set()

    answer = running.submit(source, [replace(LONG, listener=listen)], bulk=bulk)
    assert writing.wait(60)
    return answer


def test_a_short_answer_does_not_wait_for_a_long_one(running: ModelThread, steps: list[ModelSource]) -> None:
    source = ModelSource("here", "tiny", tiny())
    long = begun(running, source)
    before = len(steps)
    running.submit(source, [HELLO]).result(30)
    assert len(steps) - before < 50, "of the 400 that the long answer takes"
    assert not long.done()
    assert isinstance(long.result(60)[0], GenerationResult)


def test_work_for_a_client_that_has_gone_stops_within_one_step(running: ModelThread, steps: list[ModelSource]) -> None:
    source = ModelSource("here", "tiny", tiny())
    gone, waiting = begun(running, source), running.submit(source, [LONG])
    assert gone.cancel()
    assert waiting.cancel()
    after = len(steps)
    time.sleep(0.5)
    assert len(steps) <= after + 1
    assert wait([gone, waiting], 10).not_done == set()
    running.submit(source, [HELLO]).result(30)


def test_models_take_turns(running: ModelThread, steps: list[ModelSource], tmp_path: Path) -> None:
    """Two that are loaded alternate; a third gets its turn although they are never done."""
    sources = [ModelSource(name, "tiny", tiny()) for name in "abc"]
    long = [begun(running, source) for source in sources[:2]]
    both = steps[-10:]
    assert max(both.count(source) for source in sources) <= 6
    (answer,) = running.submit(sources[2], [HELLO]).result(60)
    assert isinstance(answer, GenerationResult)
    assert not any(answers.done() for answers in long)
    texts = {answers.result(60)[0].choices[0].text for answers in long}  # type: ignore[union-attr]
    assert texts == {running.submit(sources[0], [LONG]).result(60)[0].choices[0].text}  # type: ignore[union-attr]


def test_batches_pause_while_a_client_waits(running: ModelThread, steps: list[ModelSource]) -> None:
    bulk = begun(running, ModelSource("bulk", "tiny", tiny()), bulk=True)
    client = ModelSource("client", "tiny", tiny())
    for _ in range(3):
        before = len(steps)
        running.submit(client, [replace(HELLO, max_tokens=20)]).result(60)
        own = [number for number, source in enumerate(steps) if number >= before and source == client]
        assert len(own) == own[-1] - own[0] + 1, "no step in between was for the batch"
    assert not bulk.done()
    assert isinstance(bulk.result(60)[0], GenerationResult)


def test_an_end_of_the_server_cancels_what_is_in_progress(tmp_path: Path) -> None:
    thread = ModelThread(tmp_path)
    thread.start()
    answer = begun(thread, ModelSource("here", "tiny", tiny()))
    assert thread.close(30)
    assert answer.cancelled()
    assert wait([answer], 10).not_done == set()
