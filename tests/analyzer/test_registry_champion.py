"""The champion of a real registry: MLflow's store on SQLite, written and read back."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from reviewtune.analyzer.champion import UNFINISHED, RegistrySource
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.commands.main import main
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.data.tables import read_table
from reviewtune.errors import TrackingError
from reviewtune.tracking import registry
from reviewtune.tracking import store as tracking_store
from tests.support.odd_server import CHAT, Asked, OddServer, odd_server
from tests.support.projects import write_params
from tests.support.registry import promote_served
from tests.support.served import RARE, scored_completion, served_folder
from tests.support.serving import wait_for
from tests.support.tracking import SETTINGS


@pytest.fixture
def provider() -> Iterator[OddServer]:
    with odd_server({CHAT: answer}) as server:
        yield server


def answer(asked: Asked) -> object:
    label = "damaged_item" if asked.body["model"] == "ft:two" else "delivery_delay"
    return scored_completion(label, 0.6 if "doubtful" in asked.review else 1 - RARE, "no_issue")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder whose store has no runs; it takes seconds to create."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "dvc.yaml").touch()
    before = Path.cwd()
    os.chdir(folder)
    tracking_store.open_store(SETTINGS)
    os.chdir(before)
    return folder


@pytest.fixture
def workspace(
    project: Path, provider: OddServer, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project's folder without runs."""
    root = tmp_path / "shop"
    shutil.copytree(empty_store, root)
    here = {"kind": "compatible", "base_url": provider.base_url, "api_key_env": None, "priced_as": None}
    write_params(root, project, **here)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def promote(workspace: Path, tmp_path: Path) -> Callable[[str], int]:
    """Register a model and make it the champion; returns its version."""
    config: Config = load_params(workspace / "params.yaml")

    def promote(model: str) -> int:
        folder = served_folder(tmp_path / model.replace(":", "-"), config, model)
        return promote_served(config, folder, tmp_path)

    return promote


def test_without_arguments_the_champion_answers_and_is_followed(
    workspace: Path, promote: Callable[[str], int], provider: OddServer
) -> None:
    """Also the champion before is known: it answers when the new one is gone."""
    first = promote("ft:one")
    analyzer = ReviewAnalyzer(refresh=0.1)
    (result,) = analyzer.classify_reviews(["late"])
    assert (result.label, result.model, result.version, result.sure) == ("delivery_delay", "ft:one", str(first), True)
    second = promote("ft:two")
    wait_for(lambda: analyzer.categorize_issues(["late"]) == ["damaged_item"], 30)
    assert analyzer.version == str(second)

    def gone(asked: Asked) -> object:
        return {"error": {"message": "gone"}} if asked.body["model"] == "ft:two" else answer(asked)

    provider.routes[CHAT] = gone
    (result,) = ReviewAnalyzer().classify_reviews(["late"])
    assert (result.model, result.version) == ("ft:one", str(first))


def test_limits_of_params_yaml_hold_for_a_champion_that_was_promoted_before(
    workspace: Path, promote: Callable[[str], int]
) -> None:
    """But for a cap that cannot be kept, because its provider has no prices: it is asked as before."""
    promote("ft:one")
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["evaluation"] |= {"budget_usd": 1.0, "requests_per_minute": 600.0}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    for policy in (ReviewAnalyzer(cache=True).pinned().policy, ReviewAnalyzer().pinned().policy):
        assert policy is not None
        assert (policy.budget_usd, policy.requests_per_minute) == (None, 600)


def test_without_the_registry_the_last_known_champion_answers(
    workspace: Path, promote: Callable[[str], int], caplog: pytest.LogCaptureFixture
) -> None:
    version = promote("ft:one")
    assert ReviewAnalyzer().version == str(version)
    for rest in (workspace / "mlruns").glob("mlflow.db*"):
        rest.write_text("this is no database " * 1000)
    analyzer = ReviewAnalyzer()
    assert analyzer.categorize_issues(["late"]) == ["delivery_delay"]
    assert analyzer.version == str(version)
    assert "the champion cannot be followed" in caplog.text
    shutil.rmtree(workspace / ".work")
    with pytest.raises(TrackingError):
        ReviewAnalyzer()


def test_classify_takes_the_champion_and_splits_off_what_a_person_should_see(
    workspace: Path,
    promote: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = promote("ft:one")
    (workspace / "new.csv").write_text("id,text\n1,late\n2,doubtful\n3,\u200b\n4,late again\n")

    def classify(*words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["reviewtune", "classify", "new.csv", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return ended.value.code or 0, shown.out + shown.err

    status, shown = classify("--out", "all.csv", "--confidence")
    assert status == 0, shown
    assert f"asking ft:one (the champion, version {version})" in shown
    rows = [dict(row.cells) for row in read_table(workspace / "all.csv").rows]
    assert [row["issue"] for row in rows] == ["delivery_delay", "delivery_delay", "", "delivery_delay"]
    assert [row["confidence"] for row in rows] == ["0.9000", "0.5000", "", "0.9000"]
    assert [row["sure"] for row in rows] == ["true", "false", "false", "true"]
    status, shown = classify("--out", "sure.csv", "--unsure-to", "look.xlsx")
    assert status == 0, shown
    assert "2 of 4 reviews not sure, written to look.xlsx" in shown
    parts = [[row.cells["id"] for row in read_table(workspace / name).rows] for name in ("sure.csv", "look.xlsx")]
    assert parts == [["1", "4"], ["2", "3"]]
    assert read_table(workspace / "sure.csv").columns == ("id", "text", "issue")
    status, shown = classify("--out", "sure.csv", "--unsure-to", "sure.csv")
    assert "--out and --unsure-to are both sure.csv" in str(status)
    status, shown = classify("--out", "x.csv", "--confidence", "--base")
    assert str(status).startswith("error: --base asks ")
    assert "gives labels without a confidence: only a promoted model has one" in str(status)
    assert "leave out --base to ask the champion, or leave out --confidence" in str(status)
    assert not (workspace / "x.csv").exists()


def test_a_champion_without_its_files_leaves_the_one_before(
    workspace: Path, promote: Callable[[str], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Also after a promotion that was killed between its two aliases. Copies belong to one store."""
    first, second = promote("ft:one"), promote("ft:two")
    config = load_params(workspace / "params.yaml")
    store = tracking_store.open_store(config.tracking)
    store.set_registered_model_alias(config.registered_name, registry.PREVIOUS, str(second))
    for path in (workspace / "mlruns").rglob("served_model.json"):
        if '"ft:two"' in path.read_text():
            path.unlink()
    analyzer = ReviewAnalyzer(refresh=0.1)
    (result,) = analyzer.classify_reviews(["late"])
    assert (result.model, result.version) == ("ft:one", str(first))
    assert len([line for line in caplog.messages if "the champion cannot be followed" in line]) == 1
    other = config.tracking.model_copy(update={"uri": "http://127.0.0.1:1"})
    copies = workspace / ".work" / "champion"
    assert RegistrySource(config.tracking, config.registered_name, copies).last_known() is not None
    assert RegistrySource(other, config.registered_name, copies).last_known() is None


def test_copies_that_no_alias_refers_to_are_removed_after_a_day_without_use(
    workspace: Path, promote: Callable[[str], int]
) -> None:
    copies, seen = workspace / ".work" / "champion", set[str]()
    for model in ("ft:one", "ft:two", "ft:three"):
        promote(model)
        ReviewAnalyzer()
        seen |= {path.name for path in copies.iterdir() if path.is_dir()}
    assert len(seen) == 3
    assert {path.name for path in copies.iterdir() if path.is_dir()} == seen, "another program may just open one"
    (copies / f"{UNFINISHED}killed").mkdir()
    for path in copies.iterdir():
        os.utime(path, (0, 0))
    (copies / "mine").mkdir()
    assert ReviewAnalyzer().categorize_issues(["late"]) == ["delivery_delay"]
    kept = {path.name.rsplit("-", 2)[-2] for path in copies.iterdir() if path.is_dir() and path.name != "mine"}
    assert kept == {"2", "3"}, "the champion, and the one before"
    assert (copies / "mine").exists()


def test_it_starts_where_nothing_can_be_written(workspace: Path, promote: Callable[[str], int]) -> None:
    """A file is where the copies would be: also root cannot write there."""
    version = promote("ft:one")
    (workspace / ".work").mkdir(exist_ok=True)
    (workspace / ".work" / "champion").touch()
    (result,) = ReviewAnalyzer().classify_reviews(["late"])
    assert result.version == str(version)
