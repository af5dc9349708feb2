"""The project whose champion is a linear arm, and streams of reviews."""

import csv
from pathlib import Path

import pytest

from tests.deployment.conftest import evaluated, reviewtune
from tests.support.clones import Clone

__all__ = ["evaluated"]


@pytest.fixture(scope="session")
def launched(evaluated: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Its linear arm is champion."""
    evaluated.home.mkdir(exist_ok=True)
    copy = evaluated.copy(tmp_path_factory.mktemp("launched") / "project")
    copy.env["PYTHONPATH"] = str(copy.folder)
    reviewtune(copy, "promote", "--arm", "linear")
    return copy


@pytest.fixture(scope="module")
def watched(launched: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The test file's own copy: what `monitor` notes in its store is nobody else's."""
    copy = launched.copy(tmp_path_factory.mktemp("watched") / "project")
    copy.env["PYTHONPATH"] = str(copy.folder)
    return copy


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
