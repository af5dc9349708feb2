"""Put reviews on sides when some have theirs already, frozen or given by the file.

A near-duplicate of a review with a side goes to that side. The others are drawn by label, so that each label comes as
close to the shares as the reviews that do not move allow. A review that is similar to reviews on two sides is left out.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from reviewtune.core.config.data import SplitConfig
from reviewtune.data.sides.side_names import SIDES, Side
from reviewtune.data.splits import MIN_DISTINCT, SimilarPair
from reviewtune.errors import DataError


class Related(NamedTuple):
    """What is known about n reviews.

    Args:
        labels: of each review.
        keys: the hash of each review.
        groups: numbers [n]; the reviews of a group are connected by `pairs`.
        pairs: positions of near-duplicates.
    """

    labels: Sequence[str]
    keys: Sequence[str]
    groups: np.ndarray
    pairs: Sequence[SimilarPair]


class _Group(NamedTuple):
    """Reviews without a side that go to the same one."""

    label: str
    rows: tuple[int, ...]


def assign(related: Related, fixed: Sequence[str], settings: SplitConfig) -> np.ndarray:
    """The side [n] of each review; empty: it is left out.

    Args:
        related: the reviews.
        fixed: the side of each review that has one; empty otherwise.
        settings: the shares and the seed.

    Raises:
        DataError: a label without any fixed review has too few distinct reviews for three sides.
    """
    sides, bridges = _spread(list(fixed), related.pairs)
    have = _counts(sides, related)
    for label, groups in _free_groups(sides, bridges, related).items():
        ranked = sorted(groups, key=lambda group: _rank(group.rows, related.keys, settings.seed))
        _refuse_new_and_rare(label, have[label], len(ranked))
        for group, side in zip(ranked, _quota(have[label], len(ranked), settings), strict=True):
            for row in group.rows:
                sides[row] = side
    return np.array(_without_leaks(sides, related.pairs), dtype="<U5")


def carve_validation(sides: np.ndarray, movable: Sequence[bool], related: Related, settings: SplitConfig) -> np.ndarray:
    """Move training reviews to the validation side, for a file that names training and test reviews only.

    Args:
        sides: of the reviews [n].
        movable: whether a review may move; a group moves if all of its reviews may.
        related: the reviews.
        settings: the share and the seed.
    """
    moved = sides.copy()
    stays = {related.groups[row] for row, may in enumerate(movable) if sides[row] == "train" and not may}
    rows = [row for row in range(len(sides)) if sides[row] == "train" and related.groups[row] not in stays]
    have = _counts(sides.tolist(), related)
    for label, groups in _grouped(rows, related).items():
        ranked = sorted(groups, key=lambda group: _rank(group.rows, related.keys, settings.seed))
        train, valid = have[label]["train"], have[label]["valid"]
        wanted = max(1, round(settings.validation * (train + valid))) - valid
        for group in ranked[: max(0, min(wanted, train - 1))]:  # a model learns no label without a review to train on
            moved[list(group.rows)] = "valid"
    return moved


def _spread(sides: list[str], pairs: Iterable[SimilarPair]) -> tuple[list[str], set[int]]:
    """Give near-duplicates the side of their relatives; and the rows whose relatives have different sides."""
    near = defaultdict(set)
    for pair in pairs:
        near[pair.left].add(pair.right)
        near[pair.right].add(pair.left)
    waiting, bridges = [row for row, side in enumerate(sides) if not side], set[int]()
    while ready := [row for row in waiting if any(sides[other] for other in near[row])]:
        for row in ready:
            found = {sides[other] for other in near[row]} - {""}
            if len(found) == 1:
                sides[row] = found.pop()
            else:
                bridges.add(row)
        waiting = [row for row in waiting if not sides[row] and row not in bridges]
    return sides, bridges


def _counts(sides: Sequence[str], related: Related) -> defaultdict[str, Counter[str]]:
    """Distinct reviews of each label on each side; near-duplicates count once, with the label of their first row."""
    counts, seen = defaultdict[str, Counter[str]](Counter), set[tuple[int, str]]()
    for row, side in enumerate(sides):
        if side and (unit := (int(related.groups[row]), side)) not in seen:
            seen.add(unit)
            counts[related.labels[row]][side] += 1
    return counts


def _free_groups(sides: Sequence[str], bridges: set[int], related: Related) -> dict[str, list[_Group]]:
    return _grouped([row for row, side in enumerate(sides) if not side and row not in bridges], related)


def _grouped(rows: Iterable[int], related: Related) -> dict[str, list[_Group]]:
    """The rows as groups of near-duplicates, by the label of each group's first row; labels in alphabetical order."""
    by_number = defaultdict[int, list[int]](list)
    for row in rows:
        by_number[int(related.groups[row])].append(row)
    by_label = defaultdict[str, list[_Group]](list)
    for members in by_number.values():
        by_label[related.labels[members[0]]].append(_Group(related.labels[members[0]], tuple(members)))
    return dict(sorted(by_label.items()))


def _rank(rows: Iterable[int], keys: Sequence[str], seed: int) -> str:
    """Where a group is in the draw. It depends on the texts and the seed only, not on the order of the file."""
    return hashlib.sha256(f"{seed} {min(keys[row] for row in rows)}".encode()).hexdigest()


def _quota(have: Counter[str], free: int, settings: SplitConfig) -> list[Side]:
    """The sides of `free` more groups of a label of which `have` are placed: first a side that has none."""
    total = have.total() + free
    test = _between(round(settings.test * total), 1, total - 2)
    valid = _between(round(settings.validation * (total - test)), 1, total - test - 1)
    order: tuple[tuple[Side, int], ...] = (("train", 1), ("test", test), ("valid", valid))
    sides: list[Side] = [side for side, _ in order if not have[side]]
    for side, wanted in order:
        sides += [side] * max(0, wanted - have[side] - sides.count(side))
    return sides[:free] + [SIDES[0]] * (free - len(sides))


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _refuse_new_and_rare(label: str, have: Counter[str], free: int) -> None:
    if not have and free < MIN_DISTINCT:
        raise DataError(
            f"label '{label}' is new and has {free} distinct reviews; {MIN_DISTINCT} are needed, one for each split "
            "(near-duplicates count once, split.similarity); label more, or remove the label"
        )


def _without_leaks(sides: list[str], pairs: Sequence[SimilarPair]) -> list[str]:
    """Without training and validation reviews that are near-duplicates of a review on a more protected side."""
    for weaker in ("valid", "train"):
        stronger = SIDES[SIDES.index(weaker) + 1 :]
        for pair in pairs:
            for row, other in ((pair.left, pair.right), (pair.right, pair.left)):
                if sides[row] == weaker and sides[other] in stronger:
                    sides[row] = ""
    return sides
