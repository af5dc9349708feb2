"""The reviews without a label that the old model is asked about: read, checked, and without those it must not be asked.

No review may become training data that is like a test or a validation review, now or in data/frozen_splits.csv: the
test reviews measure both models, and choices are made on the validation reviews. A review that people have labelled is
not asked either.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.data.personal_data import prepared
from reviewtune.data.reviews import sha256, text_column_of
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.sides.review_key import KEY, review_keys
from reviewtune.data.splits import Splits, alike
from reviewtune.data.tables import read_table, refuse_stream
from reviewtune.errors import DataError

EMPTY, LONG, TWICE = "empty", "too long", "twice in the file"
TEST, VALID, LABELLED = "like a test review", "like a validation review", "labelled already"


@dataclass(frozen=True)
class Unlabelled:
    """The reviews to ask about.

    Args:
        path: the file.
        sha256: of the file.
        reviews: columns KEY (the hash of the review) and text, sorted by KEY, which is an order by chance.
        left_out: number of rows that are not asked, by reason.
    """

    path: Path
    sha256: str
    reviews: pd.DataFrame
    left_out: dict[str, int]


def read_unlabelled(
    path: Path, config: Config, splits: Splits, paths: ProjectPaths, *, text_column: str | None = None
) -> Unlabelled:
    """Read the file and leave out what must not be asked.

    Args:
        path: a CSV or .xlsx.
        config: of the data set.
        splits: the labelled reviews.
        paths: of the project, for its frozen sides.
        text_column: the column with the reviews; None: the one that conf/data names, or one with a usual name.

    Raises:
        DataError: the file cannot be read, has no such column, or no review is left.
    """
    refuse_stream(path)
    table = read_table(path)
    table.refuse_faults()
    column = text_column_of(table, text_column, config.data.columns.text)
    texts = pd.Series([prepared(row.cells[column], config.data) for row in table.rows], dtype=str)
    reviews = pd.DataFrame({KEY: review_keys(texts, config.data.language), "text": texts})
    reasons = _reasons(reviews, config, splits, paths)
    kept = reviews[reasons == ""].sort_values(KEY).reset_index(drop=True)
    left_out = dict(sorted(Counter(reason for reason in reasons if reason).items()))
    if not len(kept):
        raise DataError(f"{path}: no review is left to ask about: {left_out or 'the file has none'}")
    return Unlabelled(path=path, sha256=sha256(path), reviews=kept, left_out=left_out)


def _reasons(reviews: pd.DataFrame, config: Config, splits: Splits, paths: ProjectPaths) -> "pd.Series[str]":
    """Why each row is left out; empty: it is not. The reason that protects the measurement comes first."""
    texts, keys = reviews["text"], reviews[KEY]
    frozen = read_frozen(paths.frozen_splits)
    sides = keys.map(lambda key: frozen.get(key, ""))
    like = {name: _like(texts, part, config) for name, part in zip(Splits._fields, splits, strict=True)}
    by_priority = {
        EMPTY: texts == "",
        LONG: texts.str.len() > config.data.max_characters,
        TEST: like["test"] | (sides == "test"),
        VALID: like["valid"] | (sides == "valid"),
        LABELLED: like["train"],
        TWICE: keys.duplicated(),
    }
    reasons = pd.Series("", index=reviews.index)
    for reason, rows in by_priority.items():
        reasons = reasons.mask(rows & (reasons == ""), reason)
    return reasons


def _like(texts: "pd.Series[str]", known: pd.DataFrame, config: Config) -> "pd.Series[bool]":
    """Whether each text is a near-duplicate of one of these reviews."""
    pairs = alike(texts.tolist(), known["text"].tolist(), config.split.similarity)
    return texts.index.to_series().isin({pair.left for pair in pairs})
