"""Split reviews into training, validation and test: stratified by label, near-duplicates in one split.

The test split depends neither on the validation share nor on the training size."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.data import SplitConfig
from reviewtune.core.formatting import counted
from reviewtune.data.reviews import sha256, write_reviews
from reviewtune.data.similarity.pairs import Pairs, pairs_between, pairs_within
from reviewtune.errors import DataError

MIN_DISTINCT = 3  # of a label: one for each split
METHOD = "cosine of character 3-5-gram counts, case and punctuation aside"


class Splits(NamedTuple):
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame


class SimilarPair(NamedTuple):
    """Positions of two similar texts and their cosine in [0, 1]."""

    left: int
    right: int
    similarity: float


def alike(left: list[str], right: list[str], threshold: float) -> list[SimilarPair]:
    """Find the pairs of near-duplicates between two lists of texts.

    Args:
        left: texts.
        right: texts; may be the same list.
        threshold: the least similarity (`METHOD`) of near-duplicates, in (0, 1].

    Returns:
        The pairs, the most similar first.
    """
    pairs = pairs_between(_comparable(left), _comparable(right), threshold)
    return _as_list(pairs)


def near_duplicates(texts: list[str], threshold: float) -> list[SimilarPair]:
    """Pairs of near-duplicates within a list, each pair once with `left < right`; `threshold` as in `alike`."""
    return _as_list(pairs_within(_comparable(texts), threshold))


def _comparable(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(comparable, texts))


def _as_list(pairs: Pairs) -> list[SimilarPair]:
    return list(map(SimilarPair, *(each.tolist() for each in pairs)))


def split(reviews: pd.DataFrame, settings: SplitConfig, *, train_size: int | str) -> Splits:
    """Split by groups of near-duplicates, stratified by label.

    Args:
        reviews: a table of reviews.
        settings: the shares, the seed and the similarity of near-duplicates.
        train_size: number of training reviews, or "all". It reduces the training split only, stratified by label; a
            smaller training split is part of every larger one.

    Raises:
        DataError: a label has too few groups to be in every split, or train_size exceeds the training split.
    """
    groups = duplicate_groups(reviews["text"].tolist(), settings.similarity)
    sides = drawn_sides(groups, reviews["label"], settings)
    return parts_of(reviews, sides, train_size=train_size, seed=settings.seed)


def drawn_sides(groups: np.ndarray, labels: pd.Series, settings: SplitConfig) -> np.ndarray:
    """Draw the side [n] of each review: train, valid or test.

    Args:
        groups: group numbers [n]; the reviews of a group have one side.
        labels: of the reviews [n].
        settings: the shares and the seed.

    Raises:
        DataError: a label has too few groups to be in every split.
    """
    refuse_rare(labels_of_groups(groups, labels))
    rest, test = _cut(groups, labels, settings.test, settings.seed, "test", keep=2)
    _, valid = _cut(groups[rest], labels.iloc[rest], settings.validation, settings.seed, "validation", keep=1)
    sides = np.full(len(groups), "train")
    sides[test], sides[rest[valid]] = "test", "valid"
    return sides


def parts_of(reviews: pd.DataFrame, sides: np.ndarray, *, train_size: int | str, seed: int) -> Splits:
    """The splits of reviews whose sides [n] are known; a review with another side than the three is in none.

    Args:
        reviews: a table of reviews.
        sides: train, valid or test.
        train_size: as in `split`.
        seed: of the draw of `train_size` reviews.

    Raises:
        DataError: train_size exceeds the training split.
    """
    train, valid, test = (np.flatnonzero(sides == side) for side in Splits._fields)
    if train_size != "all":
        train = _first(train, reviews["label"], int(train_size), seed)
    return Splits(*(reviews.iloc[np.sort(part)].reset_index(drop=True) for part in (train, valid, test)))


def comparable(text: str) -> str:
    """The text without case and punctuation; a text of punctuation only is unchanged."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip() or text


def duplicate_groups(texts: list[str], threshold: float) -> np.ndarray:
    """Group numbers [n] of the texts: near-duplicates, and their near-duplicates in turn, have the same number."""
    return connected_groups(near_duplicates(texts, threshold), len(texts))


def connected_groups(pairs: list[SimilarPair], n: int) -> np.ndarray:
    """Group numbers [n]: the two of a pair, and theirs in turn, have the same number."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    ends = ([pair.left for pair in pairs], [pair.right for pair in pairs])
    graph = csr_matrix((np.ones(len(pairs)), ends), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _cut(
    groups: np.ndarray, labels: pd.Series, share: float, seed: int, name: str, *, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row positions of the larger and the smaller part; a group has the label of its first row.

    Proportional allocation can give the smaller part none, or nearly all, of the groups of a rare label. Then it gets
    one, or so many that `keep` remain.
    """
    from sklearn.model_selection import train_test_split

    of = labels_of_groups(groups, labels)
    _refuse_small(of, share, name)
    _, drawn = train_test_split(of.index.to_numpy(), test_size=share, random_state=seed, stratify=of.to_numpy())
    chosen, rng = set(drawn.tolist()), np.random.default_rng(seed)
    for _, same in of.groupby(of):
        order = rng.permutation(same.index.to_numpy()).tolist()
        inside = [group for group in order if group in chosen]
        chosen.difference_update(inside[max(1, len(same) - keep) :])
        chosen.update(order[:1] if not inside else [])
    taken = np.isin(groups, list(chosen))
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def labels_of_groups(groups: np.ndarray, labels: pd.Series) -> pd.Series:
    """The label of each group, by its number."""
    numbers, first = np.unique(groups, return_index=True)
    return pd.Series(labels.to_numpy()[first], index=numbers)


def refuse_rare(of: pd.Series) -> None:
    """Refuse a label that cannot be in all three splits; `of` is the label of each group."""
    counts = of.value_counts()
    if counts.min() < MIN_DISTINCT:
        rare = ", ".join(f"{label} {n}" for label, n in counts[counts < MIN_DISTINCT].sort_index().items())
        raise DataError(
            f"{MIN_DISTINCT} distinct reviews of each label are needed, one for each split (near-duplicates count "
            f"once, split.similarity); there are fewer of: {rare}; label more of them, merge or remove these labels"
        )


def _refuse_small(of: pd.Series, share: float, name: str) -> None:
    """Refuse no reviews, and a share that cannot hold a group of each label; `of` is the label of each group."""
    if of.empty:
        raise DataError("no review is left to split: each one is faulty, or its text has several labels; correct them")
    smaller = math.ceil(share * len(of))
    if min(smaller, len(of) - smaller) < of.nunique():
        raise DataError(
            f"split.{name}={share:g} of {counted(len(of), 'distinct review')} is {smaller}, but both parts must "
            f"hold each of the {of.nunique()} labels; label more reviews or change the share"
        )


def _first(train: np.ndarray, labels: pd.Series, size: int, seed: int) -> np.ndarray:
    """`size` rows of train, alternating labels, so that a smaller training set is part of every larger one."""
    if size > len(train):
        raise DataError(
            f"data.train_size={size}: only {counted(len(train), 'training review')} available; lower it or use all"
        )
    shuffled = pd.Series(np.random.default_rng(seed).permutation(train))
    turn = shuffled.groupby(labels.iloc[shuffled].to_numpy()).cumcount()
    return shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")[:size]].to_numpy()


def write_splits(splits: Splits, folder: Path, *, source: Path, settings: SplitConfig) -> None:
    """Write train.csv, valid.csv, test.csv and manifest.json, which records their hashes.

    Args:
        splits: the three parts.
        folder: where to write; created if missing.
        source: the file that was split; its hash goes into the manifest.
        settings: how it was split.
    """
    for name, table in splits._asdict().items():
        write_reviews(table, folder / f"{name}.csv")
    files = {
        name: {"reviews": len(table), "sha256": sha256(folder / f"{name}.csv")}
        for name, table in splits._asdict().items()
    }
    method = f"{METHOD} >= {settings.similarity:g} stays on one side"
    manifest = {"data_sha256": sha256(source), "seed": settings.seed, "near_duplicates": method, "splits": files}
    write_json(manifest, folder / "manifest.json")
