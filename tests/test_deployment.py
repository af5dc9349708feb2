"""From a run to an application and back, with real parts: `dvc repro`, the model registry, `serve-app`.

The tests follow a team: each continues where the one before stopped.
"""

import csv
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pandas as pd
import pytest

from tests.support.app_service import AppProcess, app_process
from tests.support.clones import Clone
from tests.support.serving import wait_for

pytestmark = pytest.mark.pipeline
REVIEWS = ("Still no parcel after three weeks.", "The mug arrived in two pieces.")
CLIENTS = 4
REQUESTS = 50  # of each client, at least
REFRESH = 1.0  # seconds
NEW = [
    ("It came nine days after the date that you promised me.", "delivery_delay"),
    ("The vase was cracked right through when I opened the box.", "damaged_item"),
    ("I ordered the blue one and the green one is here.", "wrong_item"),
]


@pytest.fixture(scope="module")
def team(clone: Clone) -> Clone:
    """A project after its first `dvc repro`, with its results committed."""
    # 66 training reviews calibrate no confidence.
    clone.edit("conf/promotion/default.yaml", r"max_calibration_error: \S+", "max_calibration_error: null")
    clone.write_params()
    clone.repro()
    clone.commit("first results")
    return clone


@pytest.fixture(scope="module")
def app(team: Clone) -> Iterator[AppProcess]:
    """The team's application. It runs from the first promotion until the last test."""
    with app_process(team.folder, "--refresh", str(REFRESH), environment=team.env) as running:
        yield running


def answers_of(app: AppProcess) -> tuple[str, str]:
    """Version and model that answer now."""
    (pair,) = {(result["version"], result["model"]) for result in app.classify(*REVIEWS)}
    return pair


def test_a_model_that_does_not_beat_the_reference_is_not_promoted(team: Clone) -> None:
    shown = team.run("reviewtune", "promote", ok=False)
    assert "not promoted" in shown
    assert "no champion yet" in team.run("reviewtune", "champion", ok=False)
    assert len((team.folder / "data/frozen_splits.csv").read_text().splitlines()) == 1  # nothing frozen


def test_a_promotion_can_be_forced_and_keeps_its_reason(team: Clone) -> None:
    shown = team.run("reviewtune", "promote", "--force", "--reason", "there is none yet")
    assert "version 1 is champion" in shown
    assert "there is none yet" in team.run("reviewtune", "champion", "--history")
    assert len((team.folder / "data/frozen_splits.csv").read_text().splitlines()) > 100
    team.commit("the first champion")


def test_the_application_answers_with_the_champion(team: Clone, app: AppProcess) -> None:
    assert answers_of(app) == ("1", team.json("models/finetuned.json")["model"])


def test_added_reviews_keep_the_test_set_and_a_candidate_that_is_not_better_is_refused(
    team: Clone, app: AppProcess
) -> None:
    before = set(pd.read_csv(team.folder / "data/splits/test.csv")["text"])
    with (team.folder / "data/raw/reviews_en.csv").open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows((f"new-{i}", text, label, label, "new", 0) for i, (text, label) in enumerate(NEW))
    team.set_epochs(1)
    team.write_params()
    assert {"split", "finetune", "evaluate"} <= set(team.repro())
    assert before <= set(pd.read_csv(team.folder / "data/splits/test.csv")["text"])
    team.commit("more reviews")
    shown = team.run("reviewtune", "promote", ok=False)
    assert "not promoted" in shown
    report = team.json("reports/gates.json")
    assert report["opponent"]["version"] == 1
    assert "accuracy" in {gate["name"] for gate in report["gates"] if gate["outcome"] == "failed"}
    assert answers_of(app)[0] == "1"


def test_no_request_is_lost_while_a_better_model_is_promoted_and_taken_back(team: Clone, app: AppProcess) -> None:
    tuned, enough = answers_of(app), threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(_ask_until, enough, app) for _ in range(CLIENTS)]
        try:
            assert "version 2 is champion" in team.run("reviewtune", "promote", "--arm", "linear")
            wait_for(lambda: answers_of(app)[0] == "2", 15)
            linear = answers_of(app)
            assert "version 1 is champion again" in team.run("reviewtune", "rollback", "--reason", "a trial")
            wait_for(lambda: answers_of(app) == tuned, 15)
        finally:
            enough.set()
        results = [result for client in clients for result in client.result(120)]
    assert len(results) >= CLIENTS * REQUESTS * len(REVIEWS)
    assert all(result["label"] for result in results)
    assert {(result["version"], result["model"]) for result in results} == {tuned, linear}
    assert "a trial" in team.run("reviewtune", "champion", "--history")


def _ask_until(enough: threading.Event, app: AppProcess) -> list[dict[str, Any]]:
    """The results of at least REQUESTS requests; `classify` fails the test if one is not answered."""
    results: list[dict[str, Any]] = []
    while not enough.is_set() or len(results) < REQUESTS * len(REVIEWS):
        results += app.classify(*REVIEWS)
    return results


def test_lineage_shows_where_the_model_is_used(team: Clone) -> None:
    run_id = team.runs("tags.mlflow.runName = 'finetuned'")[-1].info.run_id
    assert "version 1" in team.run("reviewtune", "lineage", run_id)


def test_the_application_falls_back_when_the_champions_model_is_deleted(team: Clone, app: AppProcess) -> None:
    _, model = answers_of(app)
    address = json.loads((team.home / "data" / "server.json").read_text())["base_url"]
    http = httpx2.Client(trust_env=False)
    with openai.OpenAI(base_url=address, api_key="none", http_client=http) as provider:
        provider.models.delete(model)
    assert answers_of(app)[0] == "2"  # the previous champion
    assert "does not answer" in app.log.read_text()


def test_a_folder_of_the_champion_answers_without_the_project(team: Clone, tmp_path: Path) -> None:
    team.run("reviewtune", "rollback", "--reason", "its model is gone")
    team.run("reviewtune", "champion", "--out", str(tmp_path / "champion"))
    with app_process(tmp_path / "champion") as elsewhere:
        assert answers_of(elsewhere)[1] == "tfidf+logistic-regression"
