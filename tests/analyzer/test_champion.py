"""The champion answers, another one when it changes, the next model of the chain when one cannot: over real HTTP."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.analyzer.open_classifier import open_classifier
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from reviewtune.data import personal_data
from reviewtune.deployment.pyfunc_model import PyfuncModel
from reviewtune.errors import ConfigError, DataError, ProviderError
from reviewtune.providers import client, live
from tests.support.odd_server import CHAT, Asked, OddServer, Reply, odd_server
from tests.support.served import provided_by, scored_completion, served_folder
from tests.support.serving import wait_for

GONE = Reply(b'{"error": {"message": "no such model", "code": "model_not_found", "param": "model"}}', status=404)


@pytest.fixture
def provider() -> Iterator[OddServer]:
    """Each model answers with a label of its own: ft:one delivery_delay, ft:two damaged_item, others no_issue."""
    with odd_server() as server:
        server.routes[CHAT] = answer
        yield server


def answer(asked: Asked) -> object:
    labels = {"ft:one": "delivery_delay", "ft:two": "damaged_item"}
    return scored_completion(labels.get(asked.body["model"], "no_issue"))


def failing(*models: str, reply: Reply = GONE, when: str = "") -> Callable[[Asked], object]:
    """As `answer`, but these models fail for reviews that contain `when`."""
    return lambda asked: reply if asked.body["model"] in models and when in asked.review else answer(asked)


@pytest.fixture
def served(config: Config, provider: OddServer, tmp_path: Path) -> Callable[..., Path]:
    """Write a served model into the folder of the champion, served_model.json in one step."""
    settings = provided_by(config, provider.base_url, base_model="base")

    def write(model: str, **changes: Any) -> Path:
        written = served_folder(tmp_path / "new", changes.pop("config", settings), model, **changes)
        (tmp_path / "champion").mkdir(exist_ok=True)
        (written / "served_model.json").replace(tmp_path / "champion" / "served_model.json")
        return tmp_path / "champion"

    return write


def test_a_classification_says_what_answered(served: Callable[..., Path]) -> None:
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    (result,) = analyzer.classify_reviews(["Still no parcel."])
    assert (result.label, result.sure, result.model, result.why) == ("delivery_delay", True, "ft:one", None)
    assert result.confidence == pytest.approx(0.9)
    assert result.version == analyzer.version
    assert analyzer.model == "ft:one"
    assert "delivery_delay" in analyzer.labels
    assert analyzer.ready()


def test_a_column_of_a_table_is_classified_whatever_its_index(served: Callable[..., Path], provider: OddServer) -> None:
    """As after a filter, or a sort; reviews without a text are empty ones."""
    provider.routes[CHAT] = lambda asked: scored_completion("damaged_item" if "glass" in asked.review else "no_issue")
    column = pd.Series(["Fine.", None, "Broken glass.", float("nan")], index=[7, 2, 0, 1], dtype=object)
    expected = ["no_issue", None, "damaged_item", None]
    for analyzer in (ReviewAnalyzer(served_model=served("ft:one"), cache=cache) for cache in (False, True)):
        assert analyzer.categorize_issues(column) == expected
        assert analyzer.classify_reviews(column)[1].why == "the review is empty"


def test_a_missing_text_fails_no_table_of_mlflow(served: Callable[..., Path]) -> None:
    model = PyfuncModel(open_classifier(served("ft:one")))
    answers = model.predict(pd.DataFrame({"text": ["late", None]}))
    assert answers["why"].fillna("").tolist() == ["", "the review is empty"]


def test_what_is_no_list_of_texts_is_refused_in_a_line(served: Callable[..., Path]) -> None:
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    with pytest.raises(DataError, match="this is a single text; give a list"):
        analyzer.categorize_issues("late")
    with pytest.raises(DataError, match=r"reviews\[1\]: this is of type int; a review is a text"):
        analyzer.classify_reviews(["late", 4])  # type: ignore[list-item]


def test_reviews_are_prepared_as_for_the_training(
    config: Config, served: Callable[..., Path], provider: OddServer
) -> None:
    """Normalised and masked, if the model was trained so."""
    masked = provided_by(config, provider.base_url)
    masked = masked.model_copy(update={"data": masked.data.model_copy(update={"mask_personal": True})})
    analyzer = ReviewAnalyzer(served_model=served("ft:one", config=masked))
    results = analyzer.classify_reviews(["  Where is\u200b it?\nMail me: jo@example.org ", " \u200b"])
    assert [result.why for result in results] == [None, "the review is empty"]
    assert "Where is it? Mail me: [EMAIL]" in provider.seen[0].review
    assert len(provider.seen) == 1


def test_masking_does_not_hold_up_other_requests(
    config: Config, served: Callable[..., Path], provider: OddServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes milliseconds per review, so a thread does it while the event loop goes on."""
    masked = provided_by(config, provider.base_url)
    masked = masked.model_copy(update={"data": masked.data.model_copy(update={"mask_personal": True})})
    analyzer, goes_on = ReviewAnalyzer(served_model=served("ft:one", config=masked)), threading.Event()

    def mask(text: str, language: str) -> str:
        assert goes_on.wait(10), "the event loop stands still"
        return text

    async def asked() -> list[str | None]:
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
        return [result.label for result in await analyzer.aclassify_reviews(["late"])]

    monkeypatch.setattr(personal_data, "mask", mask)
    assert asyncio.run(asked()) == ["delivery_delay"]


def test_threads_that_ask_at_once_open_the_provider_once(
    served: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def slow(*words: Any, **options: Any) -> Any:
        opened.append(threading.get_ident())
        time.sleep(0.2)
        return client.connect(*words, **options)

    monkeypatch.setattr(live, "connect", slow)
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: asyncio.run(analyzer.acategorize_issues(["late"])), range(8)))
    assert answers == [["delivery_delay"]] * 8
    assert len(opened) == 1


def test_another_champion_answers_after_the_refresh(served: Callable[..., Path]) -> None:
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=0.05)
    assert analyzer.categorize_issues(["late"]) == ["delivery_delay"]
    first = analyzer.version
    served("ft:two")
    wait_for(lambda: analyzer.categorize_issues(["late"]) == ["damaged_item"], 20)
    assert analyzer.version != first


def test_each_request_of_a_switch_is_answered_by_one_model(served: Callable[..., Path], provider: OddServer) -> None:
    """Four threads classify while the champion changes back and forth. No request fails or mixes two models."""
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=0.01)
    calls: list[set[tuple[str | None, str | None]]] = []
    stop = threading.Event()

    def classify() -> None:
        while not stop.is_set():
            calls.append({(result.label, result.model) for result in analyzer.classify_reviews(["late"] * 5)})

    threads = [threading.Thread(target=classify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        served(("ft:two", "ft:one")[number % 2])
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert {("delivery_delay", "ft:one")} in calls
    assert {("damaged_item", "ft:two")} in calls
    assert all(call in ({("delivery_delay", "ft:one")}, {("damaged_item", "ft:two")}) for call in calls)


def test_a_damaged_champion_does_not_replace_the_last_one(
    served: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = served("ft:one")
    analyzer = ReviewAnalyzer(served_model=folder, refresh=0.02)
    (folder / "served_model.json").write_text("{")
    for _ in range(10):
        assert analyzer.categorize_issues(["late"]) == ["delivery_delay"]
        time.sleep(0.03)
    assert len([line for line in caplog.messages if "the champion cannot be followed" in line]) == 1
    caplog.set_level(logging.INFO)
    served("ft:two")
    wait_for(lambda: analyzer.categorize_issues(["late"]) == ["damaged_item"], 20)


def test_a_previous_champion_with_other_labels_does_not_answer(
    config: Config, served: Callable[..., Path], provider: OddServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An application would get a label that the champion's data set does not have."""
    fewer = provided_by(config, provider.base_url, base_model="base")
    labels = {name: about for name, about in fewer.data.labels.items() if name != "delivery_delay"}
    fewer = fewer.model_copy(update={"data": fewer.data.model_copy(update={"labels": labels})})
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=0.05)
    served("ft:two", config=fewer)
    wait_for(lambda: analyzer.categorize_issues(["late"]) == ["damaged_item"], 20)
    provider.routes[CHAT] = failing("ft:two")
    assert analyzer.classify_reviews(["late"])[0].model == "base"
    assert "it can give labels that the champion does not have: delivery_delay" in caplog.text


def test_the_previous_champion_answers_when_the_new_one_is_gone(
    served: Callable[..., Path], provider: OddServer, caplog: pytest.LogCaptureFixture
) -> None:
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=0.05)
    provider.routes[CHAT] = failing("ft:two")
    served("ft:two")
    wait_for(lambda: analyzer.categorize_issues(["late"]) and analyzer.model == "ft:two", 20)
    results = analyzer.classify_reviews(["secret one", "secret two"])
    assert [(result.label, result.model) for result in results] == [("delivery_delay", "ft:one")] * 2
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the champion does not answer (provider compatible: HTTP 404: no such model" in warnings[0]
    assert "secret" not in caplog.text


def test_only_the_reviews_of_a_fault_fall_back(served: Callable[..., Path], provider: OddServer) -> None:
    """A zero-shot arm answers what the champion did not; it is never sure."""
    provider.routes[CHAT] = failing("ft:one", when="odd")
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    results = analyzer.classify_reviews(["fine one", "odd one", "fine two"])
    assert [(result.model, result.sure) for result in results] == [("ft:one", True), ("base", False), ("ft:one", True)]


def test_a_model_that_does_not_answer_in_time_is_replaced(served: Callable[..., Path], provider: OddServer) -> None:
    def slow(asked: Asked) -> object:
        if asked.body["model"] == "ft:one" and "slow" in asked.review:
            time.sleep(3)
        return answer(asked)

    provider.routes[CHAT] = slow
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), timeout=0.5)
    started = time.monotonic()
    results = analyzer.classify_reviews(["slow", "late"])
    assert time.monotonic() - started < 2.5
    assert [result.model for result in results] == ["base", "ft:one"]


def test_a_review_that_no_model_can_answer_is_for_a_person(served: Callable[..., Path], provider: OddServer) -> None:
    provider.routes[CHAT] = lambda _: GONE
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=60)
    assert analyzer.ready()
    for _ in range(3):
        (result,) = analyzer.classify_reviews(["late"])
        assert (result.label, result.confidence, result.sure, result.model) == (None, None, False, None)
        assert "HTTP 404: no such model" in str(result.why)
    assert not analyzer.ready()
    assert "no such model" in str(analyzer.unready())


def test_the_user_chooses_the_chain(served: Callable[..., Path], provider: OddServer) -> None:
    provider.routes[CHAT] = lambda _: GONE
    folder = served("ft:one")
    with pytest.raises(ProviderError, match="no such model"):
        ReviewAnalyzer(served_model=folder, fallbacks=[]).classify_reviews(["late"])
    with pytest.raises(ConfigError, match=r"'few' is not one of previous, .*zero_shot.*, unsure"):
        ReviewAnalyzer(served_model=folder, fallbacks=["few"])
    with pytest.raises(ConfigError, match="must be the last one"):
        ReviewAnalyzer(served_model=folder, fallbacks=["unsure", "zero_shot"])


def test_a_resting_model_is_asked_again_after_the_pause(
    served: Callable[..., Path], provider: OddServer, caplog: pytest.LogCaptureFixture
) -> None:
    """After three failures in a row, reviews do not wait for it any more; then one finds that it answers again."""
    caplog.set_level(logging.INFO)
    provider.routes[CHAT] = failing("ft:one")
    analyzer = ReviewAnalyzer(served_model=served("ft:one"), refresh=0.5)
    for _ in range(3):
        analyzer.categorize_issues(["late"])
    asked = len(provider.seen)
    assert analyzer.categorize_issues(["late"]) == ["no_issue"]
    assert len(provider.seen) == asked + 1
    provider.routes[CHAT] = answer
    wait_for(lambda: analyzer.categorize_issues(["late"]) == ["delivery_delay"], 20)
    assert [line for line in caplog.messages if line == "the champion answers again"]


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="served_model is a folder that `reviewtune champion --out FOLDER` wrote"):
        ReviewAnalyzer(served_model=tmp_path)


def test_every_event_loop_has_its_own_connections(served: Callable[..., Path]) -> None:
    """As in scripts that call asyncio.run again and again; nothing is left open."""
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    for _ in range(3):
        assert asyncio.run(analyzer.acategorize_issues(["late"])) == ["delivery_delay"]
    assert analyzer.categorize_issues(["late"]) == ["delivery_delay"]


def test_it_can_be_called_inside_of_a_running_loop(served: Callable[..., Path]) -> None:
    """As in a notebook."""
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))

    async def cell() -> list[str | None]:
        return analyzer.categorize_issues(["late"])

    assert asyncio.run(cell()) == ["delivery_delay"]


def test_a_linear_champion_answers_without_a_provider(served: Callable[..., Path], provider: OddServer) -> None:
    folder = served("tfidf+logistic-regression", arm="linear", kind="linear")
    rows = [("late again", "delivery_delay"), ("still waiting", "delivery_delay"), ("broken", "damaged_item")] * 3
    (folder / "training_reviews.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    results = ReviewAnalyzer(served_model=folder).classify_reviews(["late again", "", "broken"])
    assert [result.label for result in results] == ["delivery_delay", None, "damaged_item"]
    assert all(result.confidence for result in results if result.label)
    assert provider.seen == []


def test_a_linear_champion_without_its_reviews_is_one_line(served: Callable[..., Path]) -> None:
    folder = served("tfidf+logistic-regression", arm="linear", kind="linear")
    with pytest.raises(DataError, match=r"answers with the training reviews, but training_reviews.csv is missing"):
        ReviewAnalyzer(served_model=folder)


def test_issues_of_reviews(served: Callable[..., Path], provider: OddServer) -> None:
    provider.routes[CHAT] = lambda asked: scored_completion("damaged_item" if "broken" in asked.review else "no_issue")
    analyzer = ReviewAnalyzer(served_model=served("ft:one"))
    assert [share.label for share in analyzer.top_issues(["fine"] * 3 + ["broken"])] == ["no_issue", "damaged_item"]
    emerging = analyzer.emerging_issues(["fine"] * 60, ["fine"] * 40 + ["broken"] * 20)
    assert [(change.label, change.later.count) for change in emerging] == [("damaged_item", 20)]
