"""The sides of the split, and the words that a column of a user's file may have for them."""

from collections.abc import Iterable
from typing import Literal

Side = Literal["train", "valid", "test"]
SIDES: tuple[Side, ...] = ("train", "valid", "test")
"""In the order of their protection: no review may be similar to one of a later side."""
GIVEN = "given_split"  # the column of data/labeled.csv with the sides that the user's file gives
WORDS: dict[str, Side] = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip


def side_of(cell: str) -> Side | None:
    """The side that a normalised cell names; None if it is empty or names none."""
    return WORDS.get(cell.casefold())


def most_protected(sides: Iterable[str]) -> str:
    """The last of the sides in the order of SIDES; empty if there is none."""
    present = set(sides)
    return next((side for side in reversed(SIDES) if side in present), "")
