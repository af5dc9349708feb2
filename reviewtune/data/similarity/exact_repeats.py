"""Texts that occur several times in a list."""

from collections import defaultdict
from collections.abc import Iterable


def exact_repeats(texts: Iterable[str]) -> list[list[int]]:
    """The positions of each text that occurs several times, whatever its case; in the order of their first ones."""
    by_text = defaultdict[str, list[int]](list)
    for position, text in enumerate(texts):
        by_text[text.casefold()].append(position)
    return [positions for positions in by_text.values() if len(positions) > 1]
