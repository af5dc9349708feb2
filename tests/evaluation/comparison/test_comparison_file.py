"""comparison.json: written and read again, also as earlier releases wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core.result_file import write_result
from reviewtune.errors import DataError
from reviewtune.evaluation.comparison.comparison_file import COMPARISON_FILE, Comparison, read_comparison
from reviewtune.evaluation.comparison.findings import confidence_lines


@pytest.fixture
def content(comparison: Comparison, tmp_path: Path) -> dict[str, Any]:
    """What the file holds."""
    return dict(json.loads((tmp_path / COMPARISON_FILE).read_text(encoding="utf-8")))


def rewrite(folder: Path, content: object) -> None:
    (folder / COMPARISON_FILE).write_text(json.dumps(content), encoding="utf-8")


def test_what_is_written_is_read_again(comparison: Comparison, tmp_path: Path) -> None:
    before = (tmp_path / COMPARISON_FILE).read_bytes()
    write_result(read_comparison(tmp_path), tmp_path / COMPARISON_FILE)
    assert (tmp_path / COMPARISON_FILE).read_bytes() == before


def test_the_reference_is_named_in_the_key_of_its_count(content: dict[str, Any]) -> None:
    against_reference = content["arms"][2]["against_reference"]
    assert (against_reference["only_this_right"], against_reference["only_reference_right"]) == (50, 0)
    assert "only_other_right" in content["finetuned_against"]["zero_shot"]


def test_fields_that_do_not_apply_are_left_out(content: dict[str, Any]) -> None:
    assert not {"checkpoint", "consistency", "injections", "decided_by"} & set(content["arms"][2])
    assert content["arms"][0]["latency_p50"] is None


def test_a_file_without_version_is_read(comparison: Comparison, content: dict[str, Any], tmp_path: Path) -> None:
    assert content.pop("version") == 1
    rewrite(tmp_path, content)
    assert read_comparison(tmp_path) == comparison


def test_thresholds_of_earlier_releases_are_read(content: dict[str, Any], tmp_path: Path) -> None:
    """They were chosen on the halves of the test reviews."""
    content["cascade"] |= {"thresholds": [0.81, None]}
    for report in content["confidence"].values():
        del report["abstention"]["threshold"]
        report["abstention"]["thresholds"] = [0.81, None]
    rewrite(tmp_path, content)
    (line,) = [line for line in confidence_lines(read_comparison(tmp_path)) if "at least" in line]
    assert "probability of at least 0.81, chosen for an accuracy of 90.0 %)" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"version 2, this release reads version 1; upgrade reviewtune"),
        ({"reference": "few"}, r"reference: 'few' is not one of the arms"),
        ({"arms": 3}, r"comparison.json: damaged \(arms: .*\): run `dvc repro --force compare`"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    content: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    rewrite(tmp_path, {**content, **change})
    with pytest.raises(DataError, match=message) as caught:
        read_comparison(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"comparison.json is missing: run `make repro`"):
        read_comparison(tmp_path / "nothing")
