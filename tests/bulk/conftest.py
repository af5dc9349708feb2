"""A linear served model, and tables of its reviews."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reviewtune.analyzer.classifier import Classifier
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from tests.support.served import served_folder

TRAINING = 60


@pytest.fixture(scope="session")
def reviews(project: Path) -> list[dict[str, str]]:
    with (project / "data/raw/reviews_en.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def served(config: Config, reviews: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a linear champion."""
    folder = served_folder(tmp_path_factory.mktemp("linear") / "served", config, "linear", arm="linear", kind="linear")
    known = [{"text": row["text"], "label": row["label"]} for row in reviews[:TRAINING]]
    write_csv(folder / "training_reviews.csv", known)
    return folder


@pytest.fixture(scope="session")
def classifier(served: Path) -> Classifier:
    return ReviewAnalyzer(served_model=served, cache=True).pinned()


@pytest.fixture
def texts(reviews: list[dict[str, str]]) -> list[str]:
    """45 reviews that the model has not seen."""
    return [row["text"] for row in reviews[TRAINING : TRAINING + 45]]


@pytest.fixture
def folder(texts: list[str], tmp_path: Path) -> Path:
    """A folder with a CSV of 20 reviews and a Parquet file of 25."""
    place = tmp_path / "new"
    place.mkdir()
    rows = [{"id": f"c{number}", "text": text} for number, text in enumerate(texts[:20])]
    write_csv(place / "a.csv", rows)
    write_parquet(place / "b.parquet", {"id": list(range(25)), "text": texts[20:]})
    return place


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    """In row groups of 7 rows."""
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of all parts, in order."""
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
