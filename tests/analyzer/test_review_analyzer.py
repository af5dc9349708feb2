"""Reviews classified in an application and on the command line, by a real server; one without a label has a reason."""

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.commands import main
from reviewtune.core.config.loading import load_params
from reviewtune.core.result_file import write_result
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.core.user_dirs import running_server
from reviewtune.data.prompts import Prompt
from reviewtune.errors import ConfigError
from tests.support.recorded import recorded
from tests.support.serving import ServerProcess

LONG = "late " * 20_000  # of the tiny model's 8,192 tokens


@pytest.fixture
def workspace(project: Path, server: ServerProcess, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder whose provider is the test's server."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["provider"] |= {"base_url": server.base_url, "base_model": base}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_review_without_a_label_has_a_reason_and_does_not_affect_others(workspace: Path) -> None:
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace)
    results = analyzer.classify_reviews(["Still no parcel.", LONG, "  ", "Broken glass."])
    assert [result.label in analyzer.labels for result in results] == [True, False, False, True]
    assert [result.why is None for result in results] == [True, False, False, True]
    assert "maximum context length is 8192" in str(results[1].why)
    assert results[2].why == "the review is empty"
    assert analyzer.categorize_issues([LONG, "Broken glass."]) == [None, results[3].label]
    assert analyzer.categorize_issues([]) == []


def test_half_of_an_emoji_stops_no_review(workspace: Path) -> None:
    r"""As a program leaves it that cuts a text at 140 UTF-16 units: "\ud83d" alone cannot be written as UTF-8."""
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace)
    outcomes = analyzer.classify_reviews(["Still no parcel \ud83d", "Broken glass \ud83d\ude00 \ude00"])
    assert [outcome.label in analyzer.labels for outcome in outcomes] == [True, True]


def test_an_application_gets_no_output_unless_it_asks_for_it(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reviews = ["Still no parcel.", LONG, "Broken glass."]
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace, cache=True)
    labels = analyzer.categorize_issues(reviews)
    assert analyzer.categorize_issues(reviews) == labels  # from the cache, about which a command prints a line
    assert [result.label for result in analyzer.classify_reviews([*reviews, ""])] == [*labels, None]
    assert capfd.readouterr() == ("", "")
    ReviewAnalyzer(False, project=workspace, progress=TerminalProgress(), cache=True).classify_reviews(reviews)
    assert "classifying: 3 of 3 answers" in capfd.readouterr().out


def test_a_local_server_that_has_ended_is_started_again(
    workspace: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after two minutes without a request; the next one starts it, at another address."""
    home = tmp_path / "home"
    monkeypatch.setenv("REVIEWTUNE_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["provider"]["base_url"] = None
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace)
    try:
        (first,) = analyzer.categorize_issues(["Still no parcel."])
        end_server(home)
        assert analyzer.categorize_issues(["Still no parcel."]) == [first]
    finally:
        end_server(home)


def end_server(home: Path) -> None:
    if (server := running_server(home / "data")) is not None:
        process = psutil.Process(server.pid)
        process.terminate()
        process.wait(30)


def test_classify_names_the_lines_without_a_label(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["a", "Still no\nparcel."], ["b", LONG], ["c", "Broken glass."]])
    main.classify(Path("new.csv"), Path("sorted.csv"), base=True)
    with Path("sorted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [bool(row["issue"]) for row in rows] == [True, False, True]
    errors = capsys.readouterr().err
    assert "no label for 1 of 3 reviews" in errors
    assert "line 4: the provider did not take the review: HTTP 400: This model's maximum context length" in errors


def test_the_model_of_a_different_data_set_is_refused(workspace: Path, tmp_path: Path) -> None:
    """As after `dvc exp apply` of it and `git checkout .`, which does not restore the model."""
    config = load_params(workspace / "params.yaml")
    rows = pd.DataFrame({"text": ["late"], "label": [next(iter(config.data.labels))]})
    record = recorded("ft:ko", Prompt.of(config), rows, tmp_path / "chat", checkpoints=[])
    write_result(record.model_copy(update={"data": "reviews_ko"}), workspace / "models" / "finetuned.json")
    Path("dvc.yaml").touch()
    Path("new.csv").write_text("text,label\nlate,delivery_delay\n")
    asking: list[Callable[[], object]] = [
        lambda: ReviewAnalyzer(project=workspace),
        lambda: main.classify(Path("new.csv"), Path("sorted.csv")),
        lambda: main.evaluate(Path("new.csv")),
    ]
    for ask in asking:
        with pytest.raises(ConfigError, match="data set reviews_ko, but params"):
            ask()
    assert ReviewAnalyzer(finetuned_model="ft:another", project=workspace).model == "ft:another"
