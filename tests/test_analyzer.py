"""Reviews sorted in an application and on the command line, by a real server; one that cannot be sorted is named."""

import csv
from pathlib import Path

import pytest
import yaml

from reviewtune.analyzer import ReviewAnalyzer
from reviewtune.commands import main
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


def test_what_cannot_be_sorted_has_a_reason_and_stops_no_other(workspace: Path) -> None:
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace)
    found = analyzer.sort(["Still no parcel.", LONG, "  ", "Broken glass."])
    assert [one.label in analyzer.labels for one in found] == [True, False, False, True]
    assert [one.why is None for one in found] == [True, False, False, True]
    assert "maximum context length is 8192" in str(found[1].why)
    assert found[2].why == "the review is empty"
    assert analyzer.categorize_issues([LONG, "Broken glass."]) == [None, found[3].label]
    assert analyzer.categorize_issues([]) == []


def test_half_of_an_emoji_stops_no_review(workspace: Path) -> None:
    r"""As a program leaves it that cuts a text at 140 UTF-16 units: "\ud83d" alone cannot be written as UTF-8."""
    analyzer = ReviewAnalyzer(use_finetuned=False, project=workspace)
    outcomes = analyzer.sort(["Still no parcel \ud83d", "Broken glass \ud83d\ude00 \ude00"])
    assert [outcome.label in analyzer.labels for outcome in outcomes] == [True, True]


def test_classify_names_the_lines_without_a_label(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["a", "Still no\nparcel."], ["b", LONG], ["c", "Broken glass."]])
    main.classify(Path("new.csv"), Path("sorted.csv"), base=True)
    with Path("sorted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [bool(row["issue"]) for row in rows] == [True, False, True]
    told = capsys.readouterr().err
    assert "1 of 3 reviews have no label" in told
    assert "line 4: the provider did not take the review: HTTP 400: This model's maximum context length" in told
