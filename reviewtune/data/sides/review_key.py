"""The hash by which a review is known again: in data/frozen_splits.csv and in the predictions of an evaluation.

It is the SHA-256 of the text without personal data, case and punctuation. So a review keeps its hash when personal data
is masked, in whatever file or order it comes, and the hash tells nothing about the customer.
"""

import hashlib
from collections.abc import Iterable, Mapping

from reviewtune.data.personal_data import mask
from reviewtune.data.sides.side_names import Side
from reviewtune.data.splits import comparable

KEY = "review_sha256_v1"
"""Name of the column with the hashes. It has a version, so that hashes of another method are not taken for these."""


def review_key(text: str, language: str) -> str:
    """The hash of a review: 64 hex digits.

    Args:
        text: the review, normalised (`core.normalisation`).
        language: of the data set; it selects the telephone numbers that are masked, as in `personal_data.mask`.
    """
    return _hash(text, language, as_before=False)


def with_keys_of_now(sides: Mapping[str, Side], texts: Mapping[str, str], language: str) -> dict[str, Side]:
    """The sides, by the hash of now too if a review had another one before more personal data was masked.

    Args:
        sides: by hash.
        texts: the reviews by their hash of now.
        language: as in `review_key`.
    """
    new = {key: text for key, text in texts.items() if sides and key not in sides}
    before = {key: _hash(text, language, as_before=True) for key, text in new.items()}
    return {**sides, **{key: sides[earlier] for key, earlier in before.items() if earlier in sides}}


def _hash(text: str, language: str, *, as_before: bool) -> str:
    masked = mask(text, language, as_before=as_before)
    while masked != text:  # until nothing is left, so that the masked text has the hash of the original
        text, masked = masked, mask(masked, language, as_before=as_before)
    return hashlib.sha256(comparable(text).encode()).hexdigest()


def as_fraction(digits: str) -> float:
    """A number in [0, 1) that depends on the review alone, from some digits of its hash; 13 of them fill a float."""
    return float(int(digits, 16) / 16 ** len(digits))


def review_keys(texts: Iterable[str], language: str) -> list[str]:
    """The hash of each text."""
    return [review_key(text, language) for text in texts]
