"""Adapters of one base model share its weights in memory; other weights are freed for those that are needed."""

import gc
import logging
import shutil
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reviewtune.local_server.chat import model_memory
from reviewtune.local_server.chat.model_thread import ModelThread
from reviewtune.local_server.chat.served_model import Lane, ServedModel
from reviewtune.local_server.engine import model_loading
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.types import GenerationRequest, GenerationResult
from reviewtune.local_server.models.service import ModelSource
from tests.support.engine_models import LABELS, asked, one_thread, tiny, tiny_adapter

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
REQUEST = GenerationRequest(asked("Late again."), temperature=0, max_tokens=40, logit_bias={2: -100})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ModelThread]:
    thread = ModelThread(tmp_path)
    thread.start()
    yield thread
    assert thread.close(30)


@pytest.fixture
def loaded(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The names of the models that were loaded so far."""
    caplog.set_level(logging.INFO, logger=model_memory.__name__)
    prefix = "loading model "
    return lambda: [text.removeprefix(prefix) for text in caplog.messages if text.startswith(prefix)]


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every set of weights that was read from a disk, with no earlier ones in memory."""
    expected()  # loads and trains whatever it needs
    gc.collect()
    read: list[weakref.ref[Any]] = []
    load = model_loading.load_weights

    def recording(*arguments: Any) -> model_loading.LoadedModel:
        model = load(*arguments)
        read.append(weakref.ref(model.network))
        return model

    monkeypatch.setattr(model_loading, "load_weights", recording)
    return read


def base(*window: int) -> ModelSource:
    return ModelSource(str(tiny(*window)), str(tiny(*window)), None)


def adapter(label: str, folder: Path | None = None, name: str | None = None) -> ModelSource:
    return ModelSource(name or label, str(tiny()), folder or tiny_adapter(label), is_adapter=True)


def alone(source: ModelSource) -> str:
    folder = source.folder or Path(source.base)
    return generate.load(folder).complete([REQUEST])[0].choices[0].text


@cache
def expected() -> dict[ModelSource, str]:
    """The answers of the base model and of its adapters, each asked alone."""
    return {source: alone(source) for source in (*map(adapter, LABELS), base())}


def ask(thread: ModelThread, source: ModelSource) -> str:
    (answer,) = thread.submit(source, [REQUEST]).result(60)
    assert isinstance(answer, GenerationResult), answer
    return answer.choices[0].text


def ask_together(thread: ModelThread, *sources: ModelSource) -> list[str]:
    futures = [thread.submit(source, [REQUEST]) for source in sources]
    return [future.result(60)[0].choices[0].text for future in futures]  # type: ignore[union-attr]


def test_adapters_answer_in_turn_from_one_copy_of_the_weights(
    running: ModelThread,
    networks: list[weakref.ref[Any]],
    loaded: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(set(expected().values())) == 4, "every adapter answers differently"
    turns: list[str] = []
    step = ServedModel.step

    def recording(model: ServedModel, lane: Lane) -> int:
        turns.append(model.source.name)
        return step(model, lane)

    monkeypatch.setattr(ServedModel, "step", recording)
    assert ask_together(running, *expected()) == list(expected().values())
    assert len(networks) == 1
    assert sorted(loaded()) == sorted(source.name for source in expected()), "each once"
    last = turns[-40:]
    assert all(one != other for one, other in pairwise(last)), "a step for each, in turn"


def test_a_model_whose_weights_are_loaded_never_waits_for_a_turn(
    running: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sets of weights are busy with long answers; an adapter of one of them is answered meanwhile."""
    monkeypatch.setattr(model_memory, "TURN", 10**9)
    long = GenerationRequest(asked("Late again."), temperature=0, max_tokens=300, logit_bias={2: -100})
    busy = [running.submit(source, [long]) for source in (base(), base(64))]
    ask(running, adapter(LABELS[0]))
    assert not any(future.done() for future in busy)
    for future in busy:
        assert isinstance(future.result(60)[0], GenerationResult)


def test_weights_are_freed_for_others_that_are_needed(
    running: ModelThread, networks: list[weakref.ref[Any]], loaded: Callable[[], list[str]]
) -> None:
    answers = {source: ask(running, source) for source in (base(), adapter(LABELS[0]), adapter(LABELS[1]))}
    assert answers.items() <= expected().items()
    ask(running, base(64))
    assert [network() is not None for network in networks] == [True, True]
    ask(running, base(128))
    assert [network() is not None for network in networks] == [False, True, True], "the least recently used ones went"
    for source in (adapter(LABELS[1]), base()):
        assert ask(running, source) == expected()[source]
    assert [network() is not None for network in networks] == [False, False, True, True]
    assert len(loaded()) == 7


def test_an_answer_in_progress_survives_that_its_weights_are_freed(running: ModelThread) -> None:
    """Three sets of weights take turns; adapters of one of them go and come back together."""
    sources = [adapter(LABELS[0]), adapter(LABELS[1]), base(64), base(128)]
    assert ask_together(running, *sources) == list(map(alone, sources))


def test_of_many_adapters_the_least_recently_used_leaves(
    running: ModelThread, loaded: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_memory, "KEPT_MODELS", 2)
    sources = [adapter(label) for label in LABELS]
    for source in (*sources[:2], sources[0], sources[2]):
        ask(running, source)
    ask(running, sources[0])
    assert loaded() == list(LABELS), "the first was used again before the third came"
    ask(running, sources[1])
    assert loaded() == [*LABELS, LABELS[1]]
    assert ask_together(running, *sources) == [expected()[source] for source in sources]
    assert len(loaded()) <= 6, "models with work stay"


def test_a_deleted_adapter_leaves_the_others_working(running: ModelThread, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_adapter(LABELS[0]), tmp_path / "deleted")
    gone, other = adapter(LABELS[0], folder, "gone"), adapter(LABELS[1])
    ask(running, gone)
    in_progress = running.submit(gone, [REQUEST])
    shutil.rmtree(folder)
    assert in_progress.result(60)[0].choices[0].text == expected()[adapter(LABELS[0])]  # type: ignore[union-attr]
    assert ask(running, other) == expected()[other]
    ask(running, base())


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_training_gets_the_memory_that_idle_models_take_of_a_gpu(
    running: ModelThread, loaded: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    monkeypatch.setattr(model_memory, "_on_gpu", lambda: on_gpu)
    first = alone(base())
    assert running.submit(base(), [REQUEST]).result(60)
    before = len(loaded())
    running.free_gpu()
    (answer,) = running.submit(base(), [REQUEST]).result(60)
    assert isinstance(answer, GenerationResult)
    assert answer.choices[0].text == first
    assert len(loaded()) - before == on_gpu
