"""The data sets that recipes and classifiers are compared on, with rows to train on and held-out rows to choose by.

The reviews are the project's own, split as the pipeline does. The others are CSV files in one folder (--shared) with
the columns text and label, ordered by label: `banking77/` and `parakqc_ko/`, each with train.csv and test.csv. Their
first rows of each label are trained on, later rows of train.csv are held out; test.csv is read only if asked for.
"""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from reviews import split_reviews

from reviewtune.core.config.loading import load_config

SHARED = Path("../shared/benchmarks")


class Parts(NamedTuple):
    """Tables with the columns text and label, and the meaning of each label."""

    train: pd.DataFrame
    held_out: pd.DataFrame
    test: pd.DataFrame | None  # None: not asked for
    labels: dict[str, str]

    @property
    def digest(self) -> str:
        """12 hex digits that change with the rows to train on or the held-out ones."""
        rows = [part[["text", "label"]].to_csv(index=False) for part in (self.train, self.held_out)]
        return hashlib.sha256("\f".join(rows).encode()).hexdigest()[:12]


class Sample(NamedTuple):
    """Which rows of a CSV are taken."""

    folder: str
    labels: int | None  # the first ones in alphabetical order; None: all
    train: int  # rows of each label
    held_out: int  # rows of each label, from different groups that no training row belongs to
    group: int = 1  # rows that follow each other and say the same thing


REVIEWS = {"reviews_en": (), "reviews_ko": ("reviews_en",)}  # data set -> others whose training reviews are added
SAMPLES = {
    "banking77_10x40": Sample("banking77", labels=10, train=40, held_out=20),
    "banking77_77x10": Sample("banking77", labels=None, train=10, held_out=3),
    "parakqc_16x25": Sample("parakqc_ko", labels=None, train=25, held_out=10, group=10),
}
NAMES = (*REVIEWS, *SAMPLES)


def load(name: str, shared: Path = SHARED, *, test: bool = False) -> Parts:
    """Read a data set; `test` also reads its test split.

    Raises:
        SystemExit: the folder of the CSV files is missing.
    """
    return _of_project(name, test) if name in REVIEWS else _of_csv(SAMPLES[name], shared, test)


def _of_project(name: str, test: bool) -> Parts:
    config = load_config([f"data={name}"])
    parts = split_reviews(config)
    added = [split_reviews(load_config([f"data={other}"])).train for other in REVIEWS[name]]
    train = pd.concat([parts.train, *added], ignore_index=True)
    return Parts(train, parts.valid, parts.test if test else None, dict(config.data.labels))


def _of_csv(sample: Sample, shared: Path, test: bool) -> Parts:
    rows = _rows(shared / sample.folder / "train.csv")
    labels = sorted(set(rows["label"]))[: sample.labels]
    rows = rows[rows["label"].isin(labels)]
    place = rows.groupby("label").cumcount()
    first = math.ceil(sample.train / sample.group) * sample.group
    last = first + sample.held_out * sample.group
    held_out = rows[(place >= first) & (place < last) & ((place - first) % sample.group == 0)]
    tested = _rows(shared / sample.folder / "test.csv") if test else None
    tested = tested[tested["label"].isin(labels)] if tested is not None else None
    return Parts(rows[place < sample.train], held_out, tested, {label: meaning(label) for label in labels})


def _rows(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SystemExit(f"{path} is missing; fetch the data set, or give the folder it is in with --shared")
    return pd.read_csv(path)


def meaning(label: str) -> str:
    """A label as words, for prompts that list the labels with their meanings."""
    return label.replace("_", " ")
