"""A test set that lasts: sides that reviews keep when others are added, removed or relabelled.

`reviewtune freeze-splits` writes the side of every review into data/frozen_splits.csv, by the hash of its text. Every
path that splits reviews (stage split, sweep jobs, check-data) calls `divide`, which honours that file. A file of
reviews may also bring its own sides (data.columns.split).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted, listed
from reviewtune.core.project import ProjectPaths
from reviewtune.data.reviews import prepare, read_reviews
from reviewtune.data.sides.assign import Related, assign, carve_validation
from reviewtune.data.sides.frozen_file import read_frozen, write_frozen
from reviewtune.data.sides.notes import FixedReviews, on_fixed, on_labels, on_left_out, on_share
from reviewtune.data.sides.review_key import review_keys
from reviewtune.data.sides.side_names import GIVEN, SIDES, Side, most_protected
from reviewtune.data.splits import SimilarPair, Splits, connected_groups, drawn_sides, near_duplicates, parts_of
from reviewtune.errors import DataError

SHOWN = 20  # reviews that a message names
REPRO = "run `dvc repro split`, or `dvc checkout` for the splits that dvc.lock names"


class Division(NamedTuple):
    """Reviews on their sides.

    Args:
        parts: the splits.
        sides: of each review, before data.train_size; empty: it is left out.
        keys: the hash of each review.
        left_out: ids of the reviews without a side.
        notes: what the user should know, one line each.
    """

    parts: Splits
    sides: tuple[str, ...]
    keys: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


class FreezeSummary(NamedTuple):
    """What `freeze` did.

    Args:
        path: the file with the frozen sides.
        newly_frozen: reviews that it added, by side.
        kept: reviews of this data set that were in the file before.
        total: all reviews in the file, those of other data sets and removed ones included.
        notes: what the user should know, one line each.
    """

    path: Path
    newly_frozen: dict[str, int]
    kept: int
    total: int
    notes: tuple[str, ...]


def divide(reviews: pd.DataFrame, config: Config, frozen: Mapping[str, Side]) -> Division:
    """Split reviews: frozen and given sides first, near-duplicates to their relatives, the rest by the shares.

    Without frozen and given sides this is `splits.split`.

    Args:
        reviews: a prepared table of reviews.
        config: its section `split`, data.train_size and data.language are used.
        frozen: the frozen sides by hash, as from `read_frozen`.

    Raises:
        DataError: a label has too few reviews, a side would be empty, data.train_size exceeds the training split, or
            the file gives a review another side than it was frozen on.
    """
    keys, given = review_keys(reviews["text"], config.data.language), _given(reviews)
    fixed = _fixed_sides(reviews, keys, given, frozen)
    related = _related(reviews, keys, config, with_same=any(fixed))
    if any(fixed):
        sides = assign(related, fixed, config.split)
        if any(given) and "valid" not in given:
            movable = [side == "train" and key not in frozen for side, key in zip(given, related.keys, strict=True)]
            sides = carve_validation(sides, movable, related, config.split)
    else:
        sides = drawn_sides(related.groups, reviews["label"], config.split)
    _refuse_empty(sides)
    parts = parts_of(reviews, sides, train_size=config.data.train_size, seed=config.split.seed)
    left_out = tuple(reviews["review_id"][sides == ""])
    notes = _notes(fixed, sides, related, config, frozen)
    return Division(parts, tuple(sides.tolist()), tuple(related.keys), left_out, (*notes, *on_left_out(left_out)))


def freeze(paths: ProjectPaths, config: Config) -> FreezeSummary:
    """Freeze the side of every review of the project's splits. A review that is frozen already keeps its side.

    The splits themselves do not change by it. Equal splits give equal bytes, so it may be called at any time.

    Args:
        paths: the project.
        config: the configuration that the splits were made with.

    Raises:
        DataError: there are no splits, or data/labeled.csv and the configuration give others than those in data/splits;
            then nothing is written.
    """
    path = paths.frozen_splits
    frozen = read_frozen(path) if path.exists() else {}
    reviews = _labelled(paths)
    division = divide(reviews, config, frozen)
    _refuse_stale(division.parts, paths)
    added = _added(division, frozen)
    note = _on_source(paths, config, division.keys)
    if added or not path.exists():
        write_frozen({**frozen, **added}, path)
    counts = Counter(added.values())
    newly: dict[str, int] = {side: counts[side] for side in SIDES}
    kept = sum(key in frozen for key in division.keys)
    notes = (*on_left_out(division.left_out), *note)
    return FreezeSummary(path, newly, kept, len(frozen) + len(added), notes)


def refuse_stale(paths: ProjectPaths, config: Config) -> None:
    """What `freeze` checks first, for commands that freeze after minutes of work.

    Raises:
        DataError: as `freeze`.
    """
    frozen = read_frozen(paths.frozen_splits) if paths.frozen_splits.exists() else {}
    division = divide(_labelled(paths), config, frozen)
    _refuse_stale(division.parts, paths)
    _on_source(paths, config, division.keys)


def _related(reviews: pd.DataFrame, keys: list[str], config: Config, *, with_same: bool) -> Related:
    """The reviews with their near-duplicates.

    With `with_same`, reviews with the same hash are near-duplicates too, as they have one side between them. A drawn
    split must not depend on hashes, or the test reviews of projects from before would change.
    """
    pairs = near_duplicates(reviews["text"].tolist(), config.split.similarity)
    if with_same:
        pairs = [*pairs, *_with_same_key(keys)]
    return Related(reviews["label"].tolist(), keys, connected_groups(pairs, len(keys)), pairs)


def _with_same_key(keys: Sequence[str]) -> list[SimilarPair]:
    rows = defaultdict[str, list[int]](list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return [SimilarPair(*pair, 1.0) for members in rows.values() for pair in combinations(members, 2)]


def _given(reviews: pd.DataFrame) -> list[str]:
    return reviews[GIVEN].tolist() if GIVEN in reviews else [""] * len(reviews)


def _fixed_sides(
    reviews: pd.DataFrame, keys: Sequence[str], given: Sequence[str], frozen: Mapping[str, Side]
) -> list[str]:
    """The side of each review that has one. Of a given and a frozen side the frozen one wins."""
    by_key = defaultdict[str, set[str]](set)
    for key, side in zip(keys, given, strict=True):
        by_key[key] |= {side} - {""}
    contradicting = [
        f"{name} ({' or '.join(sorted(by_key[key]))}, frozen as {frozen[key]})"
        for name, key in zip(reviews["review_id"], keys, strict=True)
        if by_key[key] and key in frozen and frozen[key] not in by_key[key] and "test" in {frozen[key], *by_key[key]}
    ]
    if contradicting:
        raise DataError(
            f"{counted(len(contradicting), 'review')} would move between training and test: "
            f"{listed(contradicting, shown=SHOWN)}; correct these cells of column data.columns.split, set it to null, "
            "or go back to an earlier data/frozen_splits.csv with `git checkout`"
        )
    pairs = zip(keys, given, strict=True)
    return [side if side and frozen.get(key, side) in by_key[key] else frozen.get(key, side) for key, side in pairs]


def _refuse_empty(sides: np.ndarray) -> None:
    if missing := [side for side in SIDES if side not in sides]:
        raise DataError(
            f"no review is on side {' or '.join(missing)}: the sides that the file gives (data.columns.split) and the "
            "frozen ones leave none for it; label more reviews, or leave some cells of the column empty"
        )


def _added(division: Division, frozen: Mapping[str, Side]) -> dict[str, Side]:
    """The sides that are not frozen yet, by hash."""
    by_key = defaultdict[str, set[str]](set)
    for key, side in zip(division.keys, division.sides, strict=True):
        by_key[key].add(side)
    sides = {key: most_protected(found) for key, found in by_key.items() if key not in frozen}
    return {key: side for key, name in sides.items() for side in SIDES if side == name}


def _labelled(paths: ProjectPaths) -> pd.DataFrame:
    for path in (paths.labeled, *(paths.splits.part(side) for side in SIDES)):
        if not path.exists():
            raise DataError(f"{path}: no such file, so there are no splits to freeze; {REPRO}")
    return read_reviews(paths.labeled)


def _refuse_stale(parts: Splits, paths: ProjectPaths) -> None:
    for side, part in parts._asdict().items():
        if not part.equals(read_reviews(paths.splits.part(side))):
            raise DataError(
                f"{paths.splits.part(side)} is not what {paths.labeled} and params.yaml give now, so nothing was "
                f"frozen: {REPRO}; then freeze again"
            )


def _on_source(paths: ProjectPaths, config: Config, keys: Sequence[str]) -> list[str]:
    """A note if the labelled reviews have changed since they were split.

    Raises:
        DataError: most of them are others.
    """
    source = paths.root / config.data.path
    try:
        now = set(review_keys(prepare(source, config.data).reviews["text"], config.data.language))
    except DataError:  # stage prepare reports it; what was split before can be frozen all the same
        return [f"{source} cannot be read now; the reviews of {paths.labeled} were frozen"]
    if 2 * len(now & set(keys)) < len(set(keys)):
        raise DataError(f"{paths.labeled} is not of {source}, so nothing was frozen: {REPRO}")
    if new := len(now - set(keys)):
        later = "run `dvc repro split`, then freeze again"
        return [f"not split and not frozen yet: {counted(new, 'review')} of {source}; {later}"]
    return []


def _notes(
    fixed: Sequence[str], sides: np.ndarray, related: Related, config: Config, frozen: Mapping[str, Side]
) -> list[str]:
    known = sum(key in frozen for key in related.keys)
    given = sum(bool(side) and key not in frozen for side, key in zip(fixed, related.keys, strict=True))
    lines = on_fixed(FixedReviews(config.data.name, len(sides), known, given, len(frozen)))
    if not any(fixed):
        return lines
    placed = {int(group): str(side) for group, side in zip(related.groups, sides, strict=True) if side}
    test, labels = sum(side == "test" for side in placed.values()), len(set(related.labels))
    share = on_share(test, len(placed), wanted=config.split.test, labels=labels)
    return [*lines, *share, *on_labels(related.labels, sides.tolist())]
