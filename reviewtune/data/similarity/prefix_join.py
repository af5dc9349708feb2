"""Which pairs of texts may be near-duplicates: those that share enough of their rarest features.

A text's prefix is its rarest features, up to a share of its squared length. Two texts with a cosine of at least the
threshold must have some of it in common, so all others need not be compared. Rare features are in few texts, so few
pairs are left. No pair is missed. If new texts bring no new words, the time still grows with the number of pairs.

Source:
    Bayardo, Ma and Srikant, Scaling up all pairs similarity search, WWW 2007.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SHARE = 0.3  # of the squared length; a longer prefix costs time here and saves comparisons later
MULTIPLICATIONS = 2e7  # at once; as many numbers are in memory at most
SLICES = 16  # how often earlier texts are left out
COMPARED = 20_000  # pairs at once
ROUNDING = 1e-5  # of cosines in single precision


class Candidates(NamedTuple):
    """Row positions of pairs that may be near-duplicates."""

    left: np.ndarray
    right: np.ndarray


def candidates(
    left: "csr_matrix", right: "csr_matrix", threshold: float, *, once: bool = False
) -> Iterator[Candidates]:
    """The pairs with a cosine of at least the threshold, and others.

    Args:
        left: unit vectors [n, features], rare features first (`features.rare_first`).
        right: as `left`, [m, features].
        threshold: in (0, 1].
        once: `left` and `right` are the same texts, and only pairs with left < right are wanted.
    """
    least = threshold - ROUNDING
    share = max(SHARE, 1 - least**2 + ROUNDING)
    common = _least_in_common(share, least) - ROUNDING
    rows, columns, first = _prefixes(left, share), _prefixes(right, share).T.tocsr(), 0
    for start, end in _parts(rows, columns):
        if once and start - first >= rows.shape[0] / SLICES:  # pairs with an earlier text were found from there
            columns, first = columns[:, start - first :], start
        products = (rows[start:end] @ columns).tocoo()
        kept = products.data >= common
        pairs = Candidates(products.row[kept] + start, products.col[kept] + first)
        yield in_order(pairs) if once else pairs


def close(left: "csr_matrix", right: "csr_matrix", pairs: Candidates, threshold: float) -> Candidates:
    """The pairs whose vectors have a cosine of at least the threshold, apart from rounding."""
    kept = [np.zeros(0, dtype=bool)]
    for start in range(0, len(pairs.left), COMPARED):
        part = slice(start, start + COMPARED)
        cosines = left[pairs.left[part]].multiply(right[pairs.right[part]]).sum(axis=1)
        kept.append(np.asarray(cosines).ravel() >= threshold - ROUNDING)
    mask = np.concatenate(kept)
    return Candidates(pairs.left[mask], pairs.right[mask])


def in_order(pairs: Candidates) -> Candidates:
    """Those with left < right: of a list with itself, each pair once."""
    kept = pairs.left < pairs.right
    return Candidates(pairs.left[kept], pairs.right[kept])


def _least_in_common(share: float, least: float) -> float:
    """The least product of the prefixes of two texts whose cosine is `least`.

    Of the two texts, x is the one whose prefix ends first; y is cut there too. With a the angle between x and its
    prefix and b the angle between y and its part, the cosine is at most cos(a - b), by the inequality of Cauchy and
    Schwarz on both parts. So b is at most a + acos(least), and the product of the first parts at least cos(a) * cos(b).

    Args:
        share: of the squared length of each text, at least 1 - least**2; 1 or more: the whole text.
        least: the cosine.
    """
    angle = math.acos(math.sqrt(min(share, 1)))
    return math.cos(angle) * math.cos(min(math.pi / 2, angle + math.acos(max(least, 0))))


def _prefixes(vectors: "csr_matrix", share: float) -> "csr_matrix":
    """The first features of each unit vector until they have this share of its squared length."""
    from scipy.sparse import csr_matrix

    if share >= 1:
        return vectors
    sums = np.concatenate([[0.0], np.cumsum(np.square(vectors.data, dtype=np.float64))])
    before = sums[:-1] - np.repeat(sums[vectors.indptr[:-1]], np.diff(vectors.indptr))
    kept = before < share
    starts = np.concatenate([[0], np.cumsum(kept)])[vectors.indptr]
    return csr_matrix((vectors.data[kept], vectors.indices[kept], starts), shape=vectors.shape)


def _parts(rows: "csr_matrix", columns: "csr_matrix") -> Iterator[tuple[int, int]]:
    """Start and end of parts of the rows whose product with the columns takes so many multiplications."""
    each = np.concatenate([[0], np.cumsum(np.diff(columns.indptr)[rows.indices], dtype=np.int64)])[rows.indptr]
    start = 0
    while start < rows.shape[0]:
        end = int(np.searchsorted(each, each[start] + MULTIPLICATIONS, side="right")) - 1
        end = min(max(end, start + 1), rows.shape[0])
        yield start, end
        start = end
