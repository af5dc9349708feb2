"""The hash by which a review is known again: in data/frozen_splits.csv and in the predictions of an evaluation.

It is the SHA-256 of the text without personal data, case and punctuation. So a review keeps its hash when personal data
is masked, in whatever file or order it comes, and the hash tells nothing about the customer. What counts as an e-mail
address here never changes, because projects have stored these hashes. So a review whose address only `personal_data`
finds by now, such as one that touches a Korean letter, has another hash when it is masked.
"""

import hashlib
from collections.abc import Iterable

from reviewtune.data.personal_data import EMAIL_V1, mask
from reviewtune.data.splits import comparable

KEY = "review_sha256_v1"
"""Name of the column with the hashes. It has a version, so that hashes of another method are not taken for these."""


def review_key(text: str, language: str) -> str:
    """The hash of a review: 64 hex digits.

    Args:
        text: the review, normalised (`core.normalisation`).
        language: of the data set; it selects the telephone numbers that are masked, as in `personal_data.mask`.
    """
    masked = mask(text, language, email=EMAIL_V1)
    while masked != text:  # until nothing is left, so that the masked text has the hash of the original
        text, masked = masked, mask(masked, language, email=EMAIL_V1)
    return hashlib.sha256(comparable(text).encode()).hexdigest()


def as_fraction(digits: str) -> float:
    """A number in [0, 1) that depends on the review alone, from some digits of its hash; 13 of them fill a float."""
    return float(int(digits, 16) / 16 ** len(digits))


def review_keys(texts: Iterable[str], language: str) -> list[str]:
    """The hash of each text."""
    return [review_key(text, language) for text in texts]
