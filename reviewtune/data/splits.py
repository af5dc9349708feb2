"""Train, validation and test: stratified, near-duplicates on one side, the test split unmoved by the rest."""

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config import SplitConfig
from reviewtune.data.reviews import sha256, write_reviews
from reviewtune.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SLICE = 1_000  # texts compared at once with all others
METHOD = "cosine of character 3-5-gram counts, case and punctuation aside"


class Splits(NamedTuple):
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame


class Pair(NamedTuple):
    """Positions of two alike texts and their cosine in [0, 1]."""

    left: int
    right: int
    similarity: float


def alike(left: list[str], right: list[str], threshold: float) -> list[Pair]:
    """Pairs whose texts are near-duplicates: `METHOD` at least `threshold`; most alike first."""
    return list(_alike(tuple(left), tuple(right), threshold))


@lru_cache(maxsize=4)  # every job of a sweep compares the same splits
def _alike(left: tuple[str, ...], right: tuple[str, ...], threshold: float) -> tuple[Pair, ...]:
    one, other = _counts(left), _counts(right).T.tocsr()
    # In slices: nearly every pair shares some 3-gram, so the whole product of 20,000 texts would not fit the memory.
    found = [_close(one[start : start + SLICE] @ other, start, threshold) for start in range(0, len(left), SLICE)]
    if not found:
        return ()
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((columns, rows, -values))
    return tuple(Pair(int(rows[i]), int(columns[i]), float(values[i])) for i in order)


@lru_cache(maxsize=3)  # the three splits; of a learning curve's jobs one of them is another each time
def _counts(texts: tuple[str, ...]) -> "csr_matrix":
    """[texts, hashed grams]. No idf: how alike two texts are must not depend on which others are compared with them."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(preprocessor=_letters, analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False)
    counts: csr_matrix = vectorizer.transform(texts)
    return counts


def _close(similarity: "csr_matrix", start: int, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of the entries that reach the threshold; the first row is row `start` of the whole."""
    entries = similarity.tocoo()
    close = entries.data >= threshold - 1e-9
    return entries.row[close] + start, entries.col[close], entries.data[close]


def near_duplicates(texts: list[str], threshold: float) -> list[Pair]:
    """Pairs of different rows of one list; each pair once, `left < right`."""
    return [pair for pair in alike(texts, texts, threshold) if pair.left < pair.right]


def split(reviews: pd.DataFrame, settings: SplitConfig, *, train_size: int | str) -> Splits:
    """Split by groups of near-duplicates, stratified by label.

    `train_size` (a number or "all") cuts the training part only, stratified, so that the test split never moves.

    Raises:
        DataError: too few groups of a label to stand on every side, or a train_size beyond what there is.
    """
    groups = duplicate_groups(reviews["text"].tolist(), settings.similarity)
    rest, test = _cut(groups, reviews["label"], settings.test, settings.seed, "test")
    train, valid = _cut(groups[rest], reviews["label"].iloc[rest], settings.validation, settings.seed, "validation")
    train, valid = rest[train], rest[valid]
    if train_size != "all":
        train = _first(train, reviews["label"], int(train_size), settings.seed)
    return Splits(*(reviews.iloc[np.sort(part)].reset_index(drop=True) for part in (train, valid, test)))


def _letters(text: str) -> str:
    """Case and punctuation make no other review; a text of nothing but signs is kept as it is."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip() or text


def duplicate_groups(texts: list[str], threshold: float) -> np.ndarray:
    """A number for each text [n]; near-duplicates, and theirs in turn, bear the same one."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = near_duplicates(texts, threshold)
    ends = ([pair.left for pair in pairs], [pair.right for pair in pairs])
    graph = csr_matrix((np.ones(len(pairs)), ends), shape=(len(texts), len(texts)))
    return np.asarray(connected_components(graph, directed=False)[1])


def _cut(groups: np.ndarray, labels: pd.Series, share: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the larger and of the smaller side; a group counts by its first row."""
    from sklearn.model_selection import train_test_split

    representatives, first = np.unique(groups, return_index=True)
    try:
        _, chosen = train_test_split(
            representatives, test_size=share, random_state=seed, stratify=labels.to_numpy()[first]
        )
    except ValueError as error:
        raise DataError(f"split.{name}={share}: {error}; label more reviews or change the share") from error
    inside = np.isin(groups, chosen)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _first(train: np.ndarray, labels: pd.Series, size: int, seed: int) -> np.ndarray:
    """`size` rows of train, labels in turn, so that a smaller training set is part of every larger one."""
    if size > len(train):
        raise DataError(f"data.train_size={size}: only {len(train)} training reviews are there; lower it or say all")
    shuffled = pd.Series(np.random.default_rng(seed).permutation(train))
    turn = shuffled.groupby(labels.iloc[shuffled].to_numpy()).cumcount()
    return shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")[:size]].to_numpy()


def write_splits(splits: Splits, folder: Path, *, source: Path, settings: SplitConfig) -> None:
    """train.csv, valid.csv, test.csv and manifest.json, which freezes each by its hash."""
    for name, table in splits._asdict().items():
        write_reviews(table, folder / f"{name}.csv")
    files = {
        name: {"reviews": len(table), "sha256": sha256(folder / f"{name}.csv")}
        for name, table in splits._asdict().items()
    }
    method = f"{METHOD} >= {settings.similarity:g} stays on one side"
    manifest = {"data_sha256": sha256(source), "seed": settings.seed, "near_duplicates": method, "splits": files}
    write_json(manifest, folder / "manifest.json")
